"""Stretches of text to look through: what a search is given, taken apart without copying it.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .documents import Document, Documents, looked_through

NAMELESS = "text"
"""Path of a text that has none."""


class Span(NamedTuple):
    """One document's stretch of a longer text, or a text of its own."""

    text: str
    start: int
    end: int
    path: str
    first_line: int
    base: int
    """What to add to a place in ``text`` for the place in ``context``."""
    whole: Callable[[], str]
    """Gives the document itself, which may copy it."""

    def cut(self, start: int, end: int) -> str:
        """Return characters to be looked through, which are not meant for anybody else."""
        return str.__getitem__(self.text, slice(start, end))

    def line_end(self, place: int) -> int:
        """Return where the line that holds this place ends, its newline left out."""
        found = self.text.find("\n", place, self.end)
        return self.end if found < 0 else found

    def line_start(self, place: int) -> int:
        """Return where the line that holds this place begins."""
        return max(self.start, self.text.rfind("\n", self.start, place) + 1)


class Lines:
    """Tells line numbers of a span, fast for places that come in order: nothing is kept."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._place, self._line = span.start, span.first_line

    def at(self, place: int) -> int:
        """Return the number of the line that holds this place of the span's text."""
        if place < self._place:
            self._place, self._line = self._span.start, self._span.first_line
        self._line += self._span.text.count("\n", self._place, place)
        self._place = place
        return self._line


def lowered(text: str) -> str:
    """Return the text in lower case, every character in its place: a few letters would grow."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


class AtMargin:
    """A pattern that is matched where lines begin; the newline before them makes it fast."""

    def __init__(self, pattern: str) -> None:
        self._first = re.compile(pattern, re.MULTILINE)
        self._others = re.compile(rf"\n(?:{pattern})", re.MULTILINE)

    def finditer(self, span: Span) -> Iterator[tuple[int, re.Match[str]]]:
        """Yield where the line begins, and the match, which may begin with the newline before."""
        at = span.start
        first = self._first.match(span.text, at, span.end)
        if first:
            yield at, first
            at = first.end()
        for match in self._others.finditer(span.text, at, span.end):
            yield match.start() + 1, match


def spans(within: Any) -> Iterator[Span]:
    """Yield the documents of whatever has or is text: a context, documents, pieces, texts.

    Raises TypeError for anything else.
    """
    if not isinstance(within, str) and not isinstance(within, Iterable):
        raise TypeError(f"within takes texts and documents, not {type(within).__name__}")
    if isinstance(within, str):
        documents = getattr(within, "documents", None)
        yield from _of(documents) if documents is not None else [_alone(within, NAMELESS)]
    elif isinstance(within, Documents):
        yield from _of(within)
    else:
        for number, text in enumerate(within):
            if not isinstance(text, str):
                raise TypeError(f"within takes texts and documents, not {type(text).__name__}")
            if hasattr(text, "documents"):
                yield from spans(text)
            else:
                yield _alone(text, f"{NAMELESS}[{number}]")


def _of(documents: Documents) -> Iterator[Span]:
    for number, entry in enumerate(documents.entries()):
        looked_through(entry["start"], entry["end"])
        yield Span(
            documents.text,
            entry["start"],
            entry["end"],
            entry["path"],
            entry.get("firstLine", 1),
            0,
            lambda number=number: documents[number],  # type: ignore[misc]
        )


def _alone(text: str, name: str) -> Span:
    if isinstance(text, Document):
        path, first_line, base = text.path, text.first_line, text.start
        looked_through(base, base + len(text))
    else:
        path, first_line, base = getattr(text, "path", name), 1, 0
    return Span(text, 0, len(text), path, first_line, base, lambda: text)
