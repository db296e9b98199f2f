"""``cite``: finds where a quotation stands, also when it was not copied to the letter.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from .found import LONGEST_LINE, Found, place
from .spans import Lines, Span, lowered, spans

_ENOUGH = 0.75  # share of characters that have to agree
_PROBES = 6  # words of a quotation by which places are looked for
_HITS = 200  # places of each that are looked at
_BLOCK = 1 << 20  # characters that are looked through at a time
_CLOSELY = 12  # of them, those that are compared character by character
_COMPARED = 600  # characters of a quotation that are compared
_SAME = ("\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb", "-\u2010\u2011\u2012\u2013\u2014\u2212")
_AROUND = _SAME[0] + "\u2026. \t\n"  # what is put around quotations


class Citation(Found):
    """The place of a quotation: prints as ``path:line``."""

    exact: bool
    """Whether it stands there to the letter."""
    score: float
    """Share that agrees: 1.0 where only white space, case or the kind of quotes differ."""


class NotFound(str):
    """Says that a quotation stands nowhere; false where a truth value is asked for."""

    path = ""
    line = 0
    text = ""
    exact = False
    score = 0.0
    """Of the likest place."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return str(self)


def cite(quote: str, within: Any) -> Citation | NotFound:
    """Find where a quotation stands: to the letter, else but for white space, else the likest.

    Returns a NotFound, which is false, where nothing is like enough. Raises ValueError for an
    empty quotation.
    """
    wanted = quote.strip(_AROUND)
    if not wanted:
        raise ValueError("there is nothing to look for in an empty quotation")
    for span in spans(within):
        for exactly in dict.fromkeys((quote.strip(), wanted)):
            at = span.text.find(exactly, span.start, span.end)
            if at >= 0:
                return _citation(span, at, at + len(exactly), 1.0, exact=True)
    pattern = loosely(wanted)
    for span in spans(within):
        match = pattern.search(span.text, span.start, span.end)
        if match:
            return _citation(span, match.start(), match.end(), 1.0, exact=False)
    return likest(wanted, within)


def _citation(span: Span, start: int, end: int, score: float, *, exact: bool) -> Citation:
    line = Lines(span).at(start)
    text = span.text[start : min(end, start + 4 * LONGEST_LINE)]
    citation = place(Citation, f"{span.path}:{line}", span, start, line, text)
    citation.exact, citation.score = exact, round(score, 3)
    return citation


def loosely(quote: str) -> re.Pattern[str]:
    """Match the words whatever is between them, in any case and with any kind of quotes."""

    def letter(character: str) -> str:
        for alike in _SAME:
            if character in alike:
                return f"[{re.escape(alike)}]"
        return re.escape(character)

    words = ["".join(map(letter, word)) for word in quote.split()]
    return re.compile(r"\s+".join(words), re.IGNORECASE)


def likest(quote: str, within: Any) -> Citation | NotFound:
    """Compare the quotation with the places that have some of its words."""
    compared = " ".join(quote.split())[:_COMPARED].lower()
    best: tuple[float, Span, int, int] | None = None
    for span, start, end in _candidates(compared, within):
        first, last, score = _compare(compared, span.cut(start, end))
        if best is None or score > best[0]:
            best = score, span, start + first, start + last
    if best is not None and best[0] >= _ENOUGH:
        return _citation(best[1], best[2], best[3], best[0], exact=False)
    shown = compared if len(compared) < 80 else compared[:80] + "…"
    said = f"not found: {shown!r}"
    if best is not None:
        near = _citation(best[1], best[2], best[3], best[0], exact=False)
        said += f"; the likest place, {near}, agrees by {best[0]:.0%} only"
    missing = NotFound(said)
    missing.score = round(best[0], 3) if best else 0.0
    return missing


def _candidates(quote: str, within: Any) -> Iterator[tuple[Span, int, int]]:
    """The stretches that have most of the quotation's words, found by its longest ones."""
    words = sorted(set(re.findall(r"\w{3,}", quote)), key=lambda word: -len(word))
    slack = 20 + len(quote) // 4
    scored: dict[tuple[str, int, int], tuple[int, Span, int, int]] = {}
    for word, span, at in _hits(words[:_PROBES], within):
        start = max(span.start, at - quote.find(word) - slack)
        end = min(span.end, start + len(quote) + 2 * slack)
        key = (span.path, span.base, start // (slack + 1))
        if key not in scored:
            text = span.cut(start, end).lower()
            scored[key] = sum(word in text for word in words), span, start, end
    for _, span, start, end in heapq.nlargest(_CLOSELY, scored.values(), key=lambda s: s[0]):
        yield span, start, end


def _hits(words: list[str], within: Any) -> Iterator[tuple[str, Span, int]]:
    """Yield the first places of each of the words, in any case."""
    left = dict.fromkeys(words, _HITS)
    for span in spans(within):
        for start in range(span.start, span.end, _BLOCK):
            text = lowered(span.cut(start, min(span.end, start + _BLOCK)))
            for word in [word for word in words if left[word]]:
                at = text.find(word)
                while at >= 0 and left[word]:
                    left[word] -= 1
                    yield word, span, start + at
                    at = text.find(word, at + 1)


def _compare(quote: str, text: str) -> tuple[int, int, float]:
    """Where in the text the quotation's likeness is, and how much of the two agrees."""
    low = re.sub(r"\s", " ", lowered(text))
    matcher = SequenceMatcher(None, low, quote, autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size >= 3]
    if not blocks:
        return 0, 0, 0.0
    first = max(0, blocks[0].a - blocks[0].b)
    last = min(len(text), blocks[-1].a + len(quote) - blocks[-1].b)
    stretch = " ".join(low[first:last].split())
    ratio = SequenceMatcher(None, stretch, quote, autojunk=False).ratio()
    start, end = blocks[0].a, blocks[-1].a + blocks[-1].size
    matched = low[start:end]
    return start + len(matched) - len(matched.lstrip()), end, ratio
