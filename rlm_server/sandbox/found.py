"""What searches give back: texts that name their place, and lists that show one a line.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from .spans import Span

LONGEST_LINE = 1000
"""Characters of a line that are kept; of a longer one, those around the place."""


class Found(str):
    """A place: prints as ``path:line: text``."""

    path: str
    line: int
    """Line of the document's original, counted from 1."""
    text: str
    """What stands there."""
    offset: int
    """Where it stands in ``document``, in characters."""

    _span: Span

    @property
    def document(self) -> str:
        """The document that it stands in."""
        return self._span.whole()

    def __repr__(self) -> str:
        return str(self)


_F = TypeVar("_F", bound=Found)


class FoundList(list[_F], Generic[_F]):
    """A list whose ``repr`` has a place on each line; ``cut`` where a limit ended it."""

    cut = False

    def __repr__(self) -> str:
        more = ["... (there are more)"] if self.cut else []
        return "\n".join([*self, *more]) or "[]"

    __str__ = __repr__


def place(kind: type[_F], shown: str, span: Span, at: int, line: int, text: str) -> _F:
    """Make a Found of this kind for a place of the span's text."""
    found = kind(shown)
    found.path, found.line, found.text = span.path, line, text
    found.offset, found._span = at - span.start, span
    return found


def clipped(span: Span, start: int, end: int, around: int) -> str:
    """Return the characters from start to end, of a long stretch those around a place."""
    if end - start <= LONGEST_LINE:
        return span.text[start:end]
    first = max(start, min(around - LONGEST_LINE // 4, end - LONGEST_LINE))
    last = first + LONGEST_LINE
    return ("…" if first > start else "") + span.text[first:last] + ("…" if last < end else "")
