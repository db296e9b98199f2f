"""Chunkers: cut texts into pieces by lines, headings, tokens or definitions; nothing is copied.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .definitions import definitions
from .documents import Piece, located
from .headings import headings
from .spans import Lines, Span, spans

CHARACTERS_A_TOKEN = 4
"""An estimate; between 3 and 5 for most texts."""


class _Cut(NamedTuple):
    span: Span
    start: int
    end: int
    line: int
    name: str


class Pieces(Sequence[Piece]):
    """The pieces of a text, each cut out only when it is asked for."""

    def __init__(self, cuts: list[_Cut]) -> None:
        self._cuts = cuts

    def __len__(self) -> int:
        return len(self._cuts)

    def __getitem__(self, which: Any) -> Any:
        """Return a piece by number, or more of them by slice."""
        if isinstance(which, slice):
            return Pieces(self._cuts[which])
        cut = self._cuts[which]
        piece = Piece(cut.span.text[cut.start : cut.end])
        piece.name = cut.name
        return located(piece, cut.span.path, cut.line, cut.span.base + cut.start)

    def __iter__(self) -> Iterator[Piece]:
        return map(self.__getitem__, range(len(self._cuts)))

    def __repr__(self) -> str:
        shown = [f"{c.span.path}:{c.line} {c.name}".rstrip() for c in self._cuts[:5]]
        more = ["..."] if len(self._cuts) > 5 else []
        return f"<{len(self._cuts):,} pieces: {', '.join([*shown, *more])}>"


def chunk_lines(text: Any, lines: int = 200, overlap: int = 0) -> Pieces:
    """Cut into pieces of so many lines, each beginning with the last ``overlap`` of the former."""
    if lines < 1 or not 0 <= overlap < lines:
        raise ValueError("lines has to be positive, and overlap less than lines")
    return _pieces(text, lambda span: _by_lines(span, lines, overlap))


def chunk_tokens(text: Any, tokens: int = 20_000, overlap: int = 0) -> Pieces:
    """Cut into pieces of at most so many tokens, about 4 characters each, where lines end.

    ``overlap`` is in tokens too, at most half of ``tokens``.
    """
    if tokens < 1 or not 0 <= 2 * overlap <= tokens:
        raise ValueError("tokens has to be positive, and overlap at most half of it")
    size, back = tokens * CHARACTERS_A_TOKEN, overlap * CHARACTERS_A_TOKEN
    return _pieces(text, lambda span: _by_size(span, size, back))


def chunk_headings(text: Any) -> Pieces:
    """Cut before every heading of Markdown, Org or reStructuredText; ``name`` is the heading."""
    return _pieces(text, lambda span: _between(span, headings(span)))


def chunk_code(text: Any) -> Pieces:
    """Cut before every top-level definition; ``name`` is what it defines.

    Documents that are not code are cut at their headings.
    """
    return _pieces(text, lambda span: _between(span, definitions(span) or headings(span)))


def _pieces(text: Any, cut: Callable[[Span], Iterator[tuple[int, int, str]]]) -> Pieces:
    cuts = []
    for span in spans(text):
        lines = Lines(span)
        cuts += [_Cut(span, start, end, lines.at(start), name) for start, end, name in cut(span)]
    return Pieces(cuts)


def _by_lines(span: Span, lines: int, overlap: int) -> Iterator[tuple[int, int, str]]:
    start = span.start
    while start < span.end:
        following = end = start
        for number in range(lines):
            if number == lines - overlap:
                following = end
            end = min(span.end, span.line_end(end) + 1)
        yield start, end, ""
        if end == span.end:
            return
        start = following if overlap else end


def _by_size(span: Span, size: int, back: int) -> Iterator[tuple[int, int, str]]:
    start = span.start
    while start < span.end:
        end = _good_end(span, start, size)
        yield start, end, ""
        if end == span.end:
            return
        start = end
        if back:
            line = span.text.find("\n", end - back - 1, end) + 1
            start = line if 0 < line < end else end - back


def _good_end(span: Span, start: int, size: int) -> int:
    """Where a piece may end: best after a paragraph, else a line, else a word, else anywhere."""
    if span.end - start <= size:
        return span.end
    last = start + size
    for mark, earliest in (("\n\n", last - size // 4), ("\n", last - size // 2), (" ", last - 200)):
        found = span.text.rfind(mark, max(earliest, start + size // 2), last)
        if found >= 0:
            return found + len(mark)
    return last


def _between(span: Span, marks: list[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield the stretches from one mark to the next, and what there is before the first."""
    if not marks or marks[0][0] > span.start:
        marks = [(span.start, ""), *marks]
    ends = [place for place, _ in marks[1:]] + [span.end]
    for (start, name), end in zip(marks, ends, strict=True):
        if end > start:
            yield start, end, name
