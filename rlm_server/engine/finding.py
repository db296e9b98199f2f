"""Finds quotations in a corpus of any size: to the letter, else but for how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rlm_server.context.corpus import Corpus
from rlm_server.sandbox.cite import loosely
from rlm_server.sandbox.spans import lowered

BLOCK = 1 << 20
"""Characters that are read at a time."""

OVERLAP = 8192
"""Characters that two blocks share, so that nothing stands across their border unseen."""

BUDGET = 256 << 20
"""Characters that are read for all quotations of an answer; what is not found then is unknown."""

_HITS = 300
"""Places of a quotation's longest word that are looked at in a block."""


class _Wanted:
    """A text to be found, prepared."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pattern = loosely(text)
        words = re.findall(r"[^\W_]+", text.lower())
        self.probe = max(words, key=len, default="")
        self.reach = 2 * len(text) + 200


def find_all(
    texts: Iterable[str], corpus: Corpus, first: Iterable[tuple[int, int]], budget: int = BUDGET
) -> tuple[dict[str, int], bool]:
    """Find where texts stand, as offsets of the corpus; those found nowhere are left out.

    White space, case and the kind of quotes and dashes don't matter. ``first`` are stretches to
    look through before all the rest. The flag says whether everything was looked through.
    """
    wanted = {text: _Wanted(text) for text in dict.fromkeys(texts)}
    found: dict[str, int] = {}
    for start, end in (*first, (0, corpus.characters)):
        for at, text in _read(corpus, start, end):
            if not wanted:
                return found, True
            if budget <= 0:
                return found, False
            budget -= len(text)
            low = ""
            for name, one in list(wanted.items()):
                place = text.find(name)
                if place < 0 and one.probe:
                    low = low or lowered(text)
                    place = _loosely_in(text, low, one)
                if place >= 0:
                    found[name] = at + place
                    del wanted[name]
    return found, True


def _read(corpus: Corpus, start: int, end: int) -> Iterator[tuple[int, str]]:
    at = max(0, start)
    while at < end:
        yield at, corpus.slice(at, min(end, at + BLOCK + OVERLAP))
        at += BLOCK


def _loosely_in(text: str, low: str, one: _Wanted) -> int:
    """Where the pattern matches around a place of the longest word; -1 where it does nowhere."""
    at = -1
    for _ in range(_HITS):
        at = low.find(one.probe, at + 1)
        if at < 0:
            break
        match = one.pattern.search(text, max(0, at - one.reach), min(len(text), at + one.reach))
        if match:
            return match.start()
    return -1
