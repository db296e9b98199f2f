"""``search``: the passages that say most about some words, by BM25 and without an index.

Two stages keep it fast: whole blocks are judged by counts that ``str`` makes at the speed of C,
and only the best of them are looked at line by line. Runs inside the sandbox: standard library
only.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .found import Found, FoundList, place
from .spans import Lines, Span, spans

_BLOCK = 32_768  # characters that are judged as one at first
_LINES, _STEP = 12, 6  # lines of a passage, and from one to the next
_LONGEST = 4_000  # characters of a passage: some lines are very long
_AVERAGE = 600  # characters of a usual passage
_K1, _B = 1.2, 0.75
_COMMON = re.compile(
    "an?|and|are|as|at|be|been|but|by|can|could|did|does?|for|from|ha[sd]|have|how|i[fnst]|into"
    "|its|no|not|o[fnr]|should|so|such|that|the|their|then|there|these|they|this|to|was|were|what"
    "|when|where|which|who|why|will|with|would|you|your"
)


class Passage(Found):
    """A few lines: prints as ``path:line`` and the lines below it."""

    score: float
    """The higher, the more it says; comparable within one search only."""
    last_line: int
    """Its last line."""


class _Block(NamedTuple):
    span: Span
    start: int
    end: int
    counts: list[int]


class _Term(NamedTuple):
    word: str
    pattern: re.Pattern[str]
    weight: float


def search(query: str, k: int, within: Any) -> FoundList[Passage]:
    """Return the ``k`` passages that say most about the words of the query, the best first.

    Raises ValueError where the query has no word.
    """
    words = _words(query)
    if not words:
        raise ValueError("the query has no words to search for")
    blocks, characters = _count(words, within)
    totals = [sum(block.counts[n] for block in blocks) for n in range(len(words))]
    passages = max(1.0, characters / _AVERAGE)
    terms = [
        _Term(word, _pattern(word), math.log(1 + passages / (0.5 + total)))
        for word, total in zip(words, totals, strict=True)
    ]
    promising = heapq.nlargest(max(40, 4 * k), blocks, key=lambda b: _promise(b, terms))
    found = [passage for block in promising for passage in _passages(block, terms)]
    found.sort(key=lambda passage: -passage[0])
    return FoundList(_distinct(found, k))


def _words(query: str) -> list[str]:
    """The words worth searching for, each as the stem that its usual endings share."""
    every = dict.fromkeys(re.findall(r"\w+", query.lower()))
    chosen = [word for word in every if not _COMMON.fullmatch(word)] or list(every)
    return list(dict.fromkeys(map(_stem, chosen)))


def _stem(word: str) -> str:
    for ending in ("ies", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def _pattern(word: str) -> re.Pattern[str]:
    """A stem where a word, or a part of a compound name, begins; a short word only whole."""
    end = r"(?![^\W_])" if len(word) < 4 else ""
    return re.compile(r"(?<![^\W_])" + re.escape(word) + end, re.IGNORECASE)


def _count(words: list[str], within: Any) -> tuple[list[_Block], int]:
    """Count the words in every block; those without any are left out."""
    blocks, characters = [], 0
    for span in spans(within):
        path = span.path.lower()
        in_path = [word in path for word in words]
        start = span.start
        while start < span.end:
            end = span.end
            if end - start > _BLOCK:
                end = min(end, span.line_end(start + _BLOCK) + 1, start + 4 * _BLOCK)
            text = span.cut(start, end).lower()
            counts = [text.count(word) for word in words]
            if any(counts):
                counts = [n + there for n, there in zip(counts, in_path, strict=True)]
                blocks.append(_Block(span, start, end, counts))
            characters += end - start
            start = end
    return blocks, characters


def _promise(block: _Block, terms: list[_Term]) -> float:
    """What a block may be worth, by the words that it has at all."""
    size = (block.end - block.start) / _BLOCK
    return sum(
        term.weight * count / (count + 1 + size)
        for term, count in zip(terms, block.counts, strict=True)
    )


_Scored = tuple[float, Span, int, int]


def _passages(block: _Block, terms: list[_Term]) -> Iterator[_Scored]:
    """Yield the passages of a block that have any of the words: score, span, start and end."""
    path = block.span.path
    in_path = sum(term.weight for term in terms if term.pattern.search(path))
    for start, end in _windows(block):
        text = block.span.cut(start, end)
        length = _K1 * (1 - _B + _B * len(text) / _AVERAGE)
        score, covered = 0.0, 0
        for term in terms:
            count = sum(1 for _ in term.pattern.finditer(text))
            score += term.weight * count * (_K1 + 1) / (count + length)
            covered += count > 0
        if covered:
            yield score + 0.2 * in_path, block.span, start, end


def _windows(block: _Block) -> Iterator[tuple[int, int]]:
    """Cut a block into overlapping windows of lines."""
    starts = [block.start]
    while starts[-1] < block.end:
        after = block.span.line_end(starts[-1]) + 1
        starts.append(min(after, block.end, starts[-1] + _LONGEST))
    for first in range(0, max(1, len(starts) - 1 - (_LINES - _STEP)), _STEP):
        start = starts[first]
        end = starts[min(first + _LINES, len(starts) - 1)]
        for part in range(start, end, _LONGEST):
            yield part, min(end, part + _LONGEST)


def _distinct(found: list[_Scored], k: int) -> list[Passage]:
    """The best passages that share no line."""
    chosen: list[_Scored] = []
    for scored in found:
        if len(chosen) >= k:
            break
        _, span, start, end = scored
        if all(
            span.path != s.path or span.text is not s.text or end <= first or start >= last
            for _, s, first, last in chosen
        ):
            chosen.append(scored)
    return [_passage(*scored) for scored in chosen]


def _passage(score: float, span: Span, start: int, end: int) -> Passage:
    text = span.text[start:end].rstrip()
    line = Lines(span).at(start)
    passage = place(Passage, f"{span.path}:{line}\n{text}\n", span, start, line, text)
    passage.score = round(score, 2)
    passage.last_line = line + text.count("\n")
    return passage
