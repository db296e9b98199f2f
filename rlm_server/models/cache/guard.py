"""The guard of the semantic cache: whether questions that sound alike may mean different things.

Embeddings hardly see what decides: "is it thread-safe" and "is it not thread-safe", or "rename foo
to bar" and the reverse, are nearly the same to them. So a similar question may share an answer only
if nothing here speaks against it. The guard errs towards asking again, which costs only money.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from rlm_server.models.cache.guard_words import (
    DECISIVE,
    NEGATIONS,
    NUMBERS,
    OPPOSITES,
    SAME,
    STOP,
)

_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|`([^`]*)`|(?<!\w)\'([^\']+)\'(?!\w)')
_LITERAL = re.compile(r"[\d_/\\.:@#=<>+*$%&|~^]|[a-z][A-Z]|^[A-Z]{2,}|^-|\(\)")
_EDGES = ".,;:!?…\"'“”‘’[]{}"

_PREFIXES = ("un", "in", "im", "ir", "il", "non", "dis", "de", "mis", "a")


def difference(one: str, other: str) -> str:
    """What the questions differ in so that one answer can't do for both; empty if nothing is found.

    Symmetric; "numbers", "quoted text", "names" and so on, for the person who wonders.
    """
    left, right = _Parts(one), _Parts(other)
    if left.quoted != right.quoted:
        return "quoted text"
    if left.literals != right.literals:
        return "names or numbers"
    if left.negations != right.negations:
        return "negation"
    if left.decisive != right.decisive:
        return "a decisive word"
    only_left = left.words.keys() - right.words.keys()
    only_right = right.words.keys() - left.words.keys()
    if _opposed(only_left, only_right) or _opposed(only_right, only_left):
        return "opposites"
    if any(right.joined.get(key, word) != word for key, word in left.joined.items()):
        return "names or numbers"
    shared = left.words.keys() & right.words.keys()
    if [w for w in left.words if w in shared] != [w for w in right.words if w in shared]:
        return "order"
    only_left, only_right = _unmatched(only_left, only_right), _unmatched(only_right, only_left)
    if bool(only_left) != bool(only_right):
        return "one asks for more"
    return "other words" if only_left else ""


class _Parts:
    """What a question is made of: literals, in order, and the stems of its content words."""

    def __init__(self, text: str) -> None:
        text = text.replace("’", "'")
        self.quoted = [next(filter(None, found), "") for found in _QUOTED.findall(text)]
        self.literals: list[str] = []
        self.negations = 0
        self.decisive: Counter[str] = Counter()
        self.joined: dict[str, str] = {}
        """Words with hyphens, by their stems: "rlm-run" and "rlm-runs" may be two names."""
        self.words: dict[str, str] = {}
        """The words by their stems, in the order of their first place."""
        for token in _QUOTED.sub(" ", text).split():
            self._take(token.strip(_EDGES).removeprefix("(").rstrip(_EDGES))

    def _take(self, token: str) -> None:
        if token.endswith(")") and not token.endswith("()"):
            token = token[:-1]
        if not token:
            return
        if _LITERAL.search(token):
            self.literals.append(token)
            return
        words = re.split(r"[-()]+", token.lower())
        if len(words) > 1:
            self.joined["-".join(map(stem, words))] = token.lower()
        for word in words:
            self._take_word(word)

    def _take_word(self, word: str) -> None:
        if word.endswith("n't"):
            self.negations += 1
            return
        word = word.removesuffix("'s").strip("'")
        if word in NUMBERS:
            self.literals.append(NUMBERS[word])
        elif word in NEGATIONS:
            self.negations += 1
        elif word in DECISIVE:
            self.decisive[word] += 1
        elif word and word not in STOP:
            self.words.setdefault(stem(word), word)


def stem(word: str) -> str:
    """A word without the endings that don't change what it is about."""
    for ending in (
        "ations",
        "ation",
        "ings",
        "ing",
        "ies",
        "ied",
        "ers",
        "es",
        "ed",
        "s",
        "e",
        "y",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    # "running" and "run", "stopped" and "stop"
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls" else word


def _opposed(these: Iterable[str], those: Iterable[str]) -> bool:
    """Whether a word of one side is the opposite of one of the other, by list or by prefix."""
    left, right = set(these), set(those)
    for one, other in _OPPOSITE_STEMS:
        if left & one and right & other:
            return True
    return any(prefix + word in right for word in left for prefix in _PREFIXES)


def _unmatched(these: Iterable[str], those: Iterable[str]) -> set[str]:
    """The words of one side for which the other has none that means the same."""
    return {one for one in these if not any(_same(one, other) for other in those)}


def _same(one: str, other: str) -> bool:
    return any(one in group and other in group for group in _SAME_STEMS)


_OPPOSITE_STEMS = tuple(
    (frozenset(map(stem, one)), frozenset(map(stem, other))) for one, other in OPPOSITES
)
_SAME_STEMS = tuple(group | frozenset(map(stem, group)) for group in SAME)
