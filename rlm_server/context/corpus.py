"""The corpus: a prepared context on disk, and what the server looks up in it."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import msgspec

from rlm_server.context.mapped import Lines, MappedText
from rlm_server.protocol import LeftOut

TEXT = "text.bin"
INDEX = "documents.json"
LINE_CHARACTERS = 1 << 16
"""Characters of a line that are looked at; the rest of a longer one is cut off."""


class Document(msgspec.Struct, frozen=True, gc=False):
    """One text of the corpus."""

    path: str
    """As the model sees it; no two documents have the same."""
    uri: str
    """Where the text came from: a ``file:`` URI, or ``rlm-buffer:NAME``."""
    start: int
    """Offset of its first character in the corpus's text."""
    end: int
    """Offset behind its last character."""
    first_line: int
    """Line of the origin that the text begins with, counted from 1."""
    bytes: int
    """Size of what was read."""
    encoding: str
    """Python's name of the encoding it was read in."""


class Corpus:
    r"""A prepared context: one text that holds all documents, mapped by whoever reads it.

    The text of a single document is the corpus's whole text. Of several, each follows a line
    ``===== PATH =====``, which is not part of it, and is followed by a newline where it has none.
    Texts are as they were read, but "\r\n" is "\n", and no byte order mark is left; lines are
    what "\n" ends.
    """

    def __init__(
        self,
        directory: Path,
        documents: list[Document],
        *,
        hash: str,
        lines: Lines,
        left_out: list[LeftOut],
        left_out_counts: dict[str, int],
        release: Callable[[], None] | None = None,
    ) -> None:
        """Take over a directory that the builder has written. Raises OSError, ValueError.

        ``release``: what closing does in place of removing the directory.
        """
        self.directory = directory
        """Private directory that holds the two files."""
        self.text_path = directory / TEXT
        """The mapped text."""
        self.index_path = directory / INDEX
        """JSON: ``{"documents": [{"path", "start", "end", "firstLine"}, ...]}``."""
        self.part: tuple[int, int] | None = None
        """A corpus is a whole; compare ``Part``."""
        self.whole = self
        self.documents = documents
        self.bytes = sum(document.bytes for document in documents)
        """Bytes that were read for all documents."""
        self.hash = hash
        """SHA-256 of paths and texts, in hexadecimal."""
        self.left_out = left_out
        """The first hundred files that are not in it."""
        self.left_out_counts = left_out_counts
        """All of those, counted by reason."""
        self.lines = lines
        """Where lines begin, roughly."""
        self._release = release
        self._text = MappedText(self.text_path, lines)
        self.characters = self._text.characters
        """Length of the text."""
        self._by_path = {document.path: document for document in documents}
        self._by_name: dict[str, list[Document]] | None = None
        self._starts: list[int] | None = None

    def find(self, path: str) -> Document | None:
        """Find a document by its path, else by the end of it, in whole parts, if only one fits."""
        exact = self._by_path.get(path)
        if exact is not None:
            return exact
        while path.startswith("./"):
            path = path[2:]
        if path in self._by_path:
            return self._by_path[path]
        if self._by_name is None:
            self._by_name = {}
            for document in self.documents:
                self._by_name.setdefault(_name(document.path), []).append(document)
        candidates = self._by_name.get(_name(path), [])
        fitting = [d for d in candidates if d.path.endswith("/" + path)]
        return fitting[0] if len(fitting) == 1 else None

    def document_at(self, offset: int) -> Document | None:
        """Find the document that an offset of the text stands in; None between documents."""
        at = bisect_right(self._begins(), offset) - 1
        return self.documents[at] if at >= 0 and offset < self.documents[at].end else None

    def next_start(self, offset: int) -> int:
        """Where the first document behind an offset begins; the end where there is none."""
        begins = self._begins()
        at = bisect_right(begins, offset)
        return begins[at] if at < len(begins) else self.characters

    def _begins(self) -> list[int]:
        if self._starts is None:
            self._starts = [document.start for document in self.documents]
        return self._starts

    def line(self, document: Document, line: int) -> str | None:
        """Give a line of a document by its number in the origin, counted from 1, without its end.

        None where the document has no such line; at most ``LINE_CHARACTERS`` of it. Reads about
        two megabytes at most, however large the document.
        """
        number = line - document.first_line
        if number < 0:
            return None
        start = document.start
        if number:
            before = self._text.newlines_before(start)
            found = self._text.line_start(before + number)
            if found is None or found > document.end:
                return None
            start = found
        if start == document.end:
            return None  # the last newline ends a line and begins none
        text = self._text.slice(start, min(document.end, start + LINE_CHARACTERS))
        return text.split("\n", 1)[0]

    def line_at(self, document: Document, offset: int) -> int:
        """Give the line of the origin, counted from 1, that an offset of the corpus stands in."""
        before = self._text.newlines_before(offset) - self._text.newlines_before(document.start)
        return document.first_line + before

    def text(self, document: Document, most: int) -> str:
        """Give the first ``most`` characters of a document."""
        return self._text.slice(document.start, min(document.end, document.start + most))

    def slice(self, start: int, end: int) -> str:
        """Give the text between two offsets."""
        return self._text.slice(start, end)

    def head(self, characters: int) -> str:
        """Give the beginning of the corpus's text."""
        return self._text.slice(0, characters)

    def tail(self, characters: int) -> str:
        """Give the end of the corpus's text."""
        return self._text.slice(self.characters - characters, self.characters)

    def close(self) -> None:
        """Remove the files and their directory, unless they are kept for other runs.

        Whoever has mapped the text keeps it. Closing twice is harmless.
        """
        self._text.close()
        release, self._release = self._release or self._discard, _nothing
        release()

    def _discard(self) -> None:
        discard(self.directory)


def discard(directory: Path) -> None:
    """Remove a corpus's files, and the directory if nothing else is in it."""
    for name in (TEXT, INDEX):
        with contextlib.suppress(OSError):
            (directory / name).unlink()
    with contextlib.suppress(OSError):
        directory.rmdir()


def _nothing() -> None:
    """What is closed stays closed."""


def _name(path: str) -> str:
    return path.rpartition("/")[2]
