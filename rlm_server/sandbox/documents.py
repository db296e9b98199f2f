"""The documents of a context: a sequence in their order, and a mapping by their paths.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, TypeVar

_NEAR = 5  # paths that are named where one was not found
_item = str.__getitem__
_SMALL = 1024  # characters; a document of fewer is copied rather than aimed at


def _unwatched(start: int, end: int) -> None:
    """Nobody wants to know."""


_cut_out: Callable[[int, int], None] = _unwatched
_looked_through: Callable[[int, int], None] = _unwatched
_foreseen: Callable[[int, int], None] = _unwatched
_kept = True


def watch(
    cut_out: Callable[[int, int], None],
    look: Callable[[int, int], None],
    foreseen: Callable[[int, int], None] = _unwatched,
) -> None:
    """Have these told, from now on, of what is cut out of the context or looked through.

    ``foreseen`` is told of what is only cut out to find out ahead what code will ask.
    """
    global _cut_out, _looked_through, _foreseen
    _cut_out, _looked_through, _foreseen = cut_out, look, foreseen


@contextmanager
def foreseeing() -> Iterator[None]:
    """What is cut out meanwhile is not the code's doing; no document is kept for it either."""
    global _cut_out, _looked_through, _kept
    before = _cut_out, _looked_through, _kept
    _cut_out, _looked_through, _kept = _foreseen, _unwatched, False
    try:
        yield
    finally:
        _cut_out, _looked_through, _kept = before


def cut_out(start: int, end: int) -> None:
    """Tell that code has these characters of the context now."""
    _cut_out(start, end)


def looked_through(start: int, end: int) -> None:
    """Tell that code looks through these characters of the context."""
    _looked_through(start, end)


class Document(str):
    """One document's text; a ``str`` that knows where it comes from."""

    path: str
    """Path of the document, relative to its root where it has one."""
    first_line: int
    """Line of the original that the text begins with, counted from 1."""
    start: int
    """Offset of the text in ``context``, in characters."""
    mapped = False
    """Whether its characters are the context's own, so that it takes no memory."""

    def __getitem__(self, which: Any) -> str:
        """Slice as any text does."""
        if type(which) is slice:
            base = getattr(self, "start", None)
            if base is not None:
                start, end, _ = which.indices(len(self))
                _cut_out(base + start, base + end)
        return _item(self, which)

    @property
    def text(self) -> Document:
        """The text, which is the document itself."""
        return self

    def line_at(self, offset: int) -> int:
        """Return the line, counted from 1 as in the original, that holds this offset."""
        return self.first_line + self.count("\n", 0, offset)


class Piece(Document):
    """A part of a document, cut out by a chunker; ``first_line`` is the document's numbering."""

    name = ""
    """Heading or definition that it begins with; empty where it begins with neither."""

    @property
    def place(self) -> str:
        """Where it begins, as ``path:line``."""
        return f"{self.path}:{self.first_line}"


_D = TypeVar("_D", bound=Document)


def located(document: _D, path: str, first_line: int, start: int) -> _D:
    """Tell a document where it comes from, and return it."""
    document.path, document.first_line, document.start = path, first_line, start
    return document


class Documents(Sequence[Document]):
    """The documents of a context, each cut out when it is asked for, by number or by path."""

    def __init__(
        self,
        text: str,
        index: bytes | list[dict[str, Any]],
        aim: Callable[[int, int], Document] | None,
    ) -> None:
        """``index`` is parsed when it is needed; ``aim`` makes a document that copies nothing."""
        self.text = text
        self._raw = index if isinstance(index, bytes) else None
        self._entries = [] if isinstance(index, bytes) else index
        self._numbers: dict[str, int] | None = None
        self._starts: list[int] | None = None
        self._aim = aim
        self._views: dict[int, Document] = {}

    def entries(self) -> list[dict[str, Any]]:
        """Return path, start, end and firstLine of each, without cutting any out."""
        if self._raw is not None:
            self._entries, self._raw = json.loads(self._raw)["documents"], None
        return self._entries

    def __len__(self) -> int:
        return len(self.entries())

    def __getitem__(self, which: Any) -> Any:
        """Return a document by number or by path, or a list of them by slice."""
        entries = self.entries()
        if isinstance(which, slice):
            return [self._document(number) for number in range(*which.indices(len(entries)))]
        if isinstance(which, str):
            return self._document(self._number(which))
        number = which + len(entries) if which < 0 else which
        if not 0 <= number < len(entries):
            raise IndexError("document index out of range")
        return self._document(number)

    def __iter__(self) -> Iterator[Document]:
        return map(self._document, range(len(self)))

    def __contains__(self, what: object) -> bool:
        """Whether there is a document of this path, or this very document."""
        if isinstance(what, Document):
            return what.path in self._by_path() and self[what.path] == what
        return isinstance(what, str) and what in self._by_path()

    def __repr__(self) -> str:
        shown = ", ".join(repr(entry["path"]) for entry in self.entries()[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"<{len(self):,} documents: {shown}{more}>"

    def at(self, offset: int) -> Document:
        """Return the document that holds this offset of ``context``, or the one before it."""
        if self._starts is None:
            self._starts = [entry["start"] for entry in self.entries()]
        return self._document(max(0, bisect_right(self._starts, offset) - 1))

    def paths(self) -> list[str]:
        """Return the paths of all documents, in order."""
        return [entry["path"] for entry in self.entries()]

    keys = paths  # so that dict(documents) works

    def values(self) -> Documents:
        """Return the documents, as a mapping does."""
        return self

    def items(self) -> Iterator[tuple[str, Document]]:
        """Yield each path with its document."""
        return zip(self.paths(), self, strict=True)

    def get(self, path: str, default: Any = None) -> Any:
        """Return the document of this path, or the default."""
        return self[path] if path in self._by_path() else default

    def glob(self, pattern: str) -> Documents:
        """Return the documents whose paths match, as in ``*.py`` or ``src/**/test_*``.

        ``*`` stands for any characters, ``/`` among them.
        """
        patterns = {pattern, pattern.replace("**/", "")}
        chosen = [e for e in self.entries() if any(fnmatchcase(e["path"], p) for p in patterns)]
        return Documents(self.text, chosen, self._aim)

    def _by_path(self) -> dict[str, int]:
        if self._numbers is None:
            paths = self.paths()
            numbered = zip(reversed(paths), reversed(range(len(paths))), strict=True)
            self._numbers = dict(numbered)  # of two that share a path, the first
        return self._numbers

    def _number(self, path: str) -> int:
        number = self._by_path().get(path)
        if number is None:
            name = path.rpartition("/")[2]
            near = [p for p in self.paths() if p.rpartition("/")[2] == name][:_NEAR]
            hint = f"; there is {', '.join(near)}" if near else "; see context.documents.paths()"
            raise KeyError(f"no document has the path {path!r}{hint}")
        return number

    def _document(self, number: int) -> Document:
        made = self._views.get(number)
        if made is not None:
            return made
        entry = self._entries[number]
        start, end = entry["start"], entry["end"]
        _cut_out(start, end)
        if self._aim is not None and end - start > _SMALL:
            document = self._aim(start, end)
            document.mapped = True
            if _kept:
                self._views[number] = document
        else:
            # Wider text has to be cut by the interpreter, which finds each part's narrowest form.
            document = Document(_item(self.text, slice(start, end)))
        return located(document, entry["path"], entry.get("firstLine", 1), start)
