"""The assembly: pieces are read one after the other and written into one corpus.

All of it is blocking work for a thread of its own. What holds the interpreter is done a megabyte
at a time, so that the event loop gets its turn.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

import msgspec

from rlm_server.config import ContextConfig
from rlm_server.context.corpus import INDEX, TEXT, Corpus, Document
from rlm_server.context.decode import without_surrogates
from rlm_server.context.mapped import MappedWriter
from rlm_server.context.plan import Piece
from rlm_server.context.reading import CHUNK, RefusedError, TextFile
from rlm_server.context.reasons import LeftOuts
from rlm_server.context.refusals import in_words
from rlm_server.errors import SourceError

RESERVE = 64 << 20
"""Bytes that are always left free on the disk."""
_CHECK_EVERY = 16 << 20


class _Readable(Protocol):
    """What a piece becomes when it is opened: text to be taken piece by piece."""

    encoding: str
    size: int
    bytes: int

    def texts(self) -> Iterator[str]: ...

    def close(self) -> None: ...


class _Inline:
    """A text that came with the question."""

    encoding = "utf-8"

    def __init__(self, text: str) -> None:
        self._text = without_surrogates(text).replace("\r\n", "\n")
        self.size = self.bytes = len(self._text.encode())

    def texts(self) -> Iterator[str]:
        for at in range(0, len(self._text), CHUNK):
            yield self._text[at : at + CHUNK]

    def close(self) -> None:
        """Nothing is open."""


class Disk:
    """Refuses to fill the disk, and to exceed the configured size."""

    def __init__(self, directory: Path, limit: int, make_room: Callable[[], object]) -> None:
        self._directory = directory
        self._make_room = make_room
        self._limit = limit
        self._granted = 0

    def expect(self, size: int) -> None:
        """Refuse early what can't fit. Raises SourceError."""
        if size > _CHECK_EVERY:
            self._need(size)

    def grow(self, size: int, more: int) -> None:
        """Allow the text to take ``size`` bytes, ``more`` than now. Raises SourceError."""
        if size > self._limit:
            raise SourceError(
                f"The context would take {in_words(size)} on disk, which is over the limit of "
                f"{in_words(self._limit)} ([context] max-bytes).",
                cure="Ask about less, leave out what holds rare characters, or raise the limit.",
            )
        self._granted -= more
        if self._granted >= 0:
            return
        wanted = max(more, _CHECK_EVERY)
        self._need(wanted)
        self._granted = wanted - more

    def _need(self, wanted: int) -> None:
        if self._free() < wanted + RESERVE:
            self._make_room()
        if (free := self._free()) < wanted + RESERVE:
            raise SourceError(
                f"There is no room for the context: {self._directory} has {in_words(free)} left, "
                f"and {in_words(wanted + RESERVE)} are needed.",
                cure="Make room there, set RLM_CACHE to another place, or ask about less.",
            )

    def _free(self) -> int:
        info = os.statvfs(self._directory)
        return info.f_bavail * info.f_frsize


class Assembly:
    """One corpus in the making."""

    def __init__(
        self,
        pieces: Iterable[Piece],
        left: LeftOuts,
        directory: Path,
        config: ContextConfig,
        *,
        checkpoint: Callable[[], None],
        progress: Callable[[int, int], None],
        make_room: Callable[[], object] = lambda: None,
    ) -> None:
        """``checkpoint`` is called often and may raise; ``progress`` takes documents and bytes.

        ``make_room`` is called where the disk is too full.
        """
        self._pieces = pieces
        self._left = left
        self._directory = directory
        self._config = config
        self._checkpoint = checkpoint
        self._progress = progress
        self._documents: list[Document] = []
        self._bytes = 0
        self._hash = hashlib.sha256()
        self._disk = Disk(directory, config.max_bytes, make_room)
        self._writer = MappedWriter(directory / TEXT, grow=self._disk.grow, checkpoint=checkpoint)

    def run(self) -> Corpus:
        """Read everything. Raises SourceError, OSError, and what the checkpoint raises."""
        index_path = self._directory / INDEX
        try:
            with index_path.open("xb") as index:
                index.write(b'{"documents":[')
                self._write_all(index)
                index.write(b"]}")
            self._writer.finish()
        finally:
            self._writer.close()
        return Corpus(
            self._directory,
            self._documents,
            hash=self._hash.hexdigest(),
            lines=self._writer.lines,
            left_out=self._left.first,
            left_out_counts=self._left.counts,
        )

    def _write_all(self, index: IO[bytes]) -> None:
        """Write each document; the first waits for the second, since a single one has no header."""
        with contextlib.ExitStack() as stack:
            waiting: tuple[Piece, _Readable] | None = None
            for piece, readable in self._opened():
                if waiting is None and not self._documents:
                    waiting = piece, readable
                    stack.callback(readable.close)
                    continue
                with contextlib.closing(readable):  # the other may fail before it is its turn
                    if waiting is not None:
                        self._add(*waiting, index, headed=True)
                        waiting = None
                    self._add(piece, readable, index, headed=True)
            if waiting is not None:
                self._add(*waiting, index, headed=False)

    def _opened(self) -> Iterator[tuple[Piece, _Readable]]:
        """Open the pieces that can be read and count the others."""
        total = 0
        for piece in self._pieces:
            try:
                readable = self._open(piece)
            except RefusedError as error:
                self._left.add(piece.path, error.reason)
                continue
            total += readable.size
            if total > self._config.max_bytes:
                readable.close()
                limit = in_words(self._config.max_bytes)
                raise SourceError(
                    f"The sources hold more than {limit} of text, which is the limit "
                    "([context] max-bytes).",
                    cure="Ask about less, use include or exclude globs, or raise the limit.",
                )
            try:
                self._disk.expect(readable.size)
            except SourceError:
                readable.close()
                raise
            yield piece, readable

    def _open(self, piece: Piece) -> _Readable:
        if piece.text is not None:
            return _Inline(piece.text)
        return TextFile(
            piece.file,
            limit=piece.limit,
            spooled=piece.spooled,
            follow=piece.follow,
            checkpoint=self._checkpoint,
        )

    def _add(self, piece: Piece, readable: _Readable, index: IO[bytes], *, headed: bool) -> None:
        """Write one document."""
        if headed:
            self._writer.write(f"===== {piece.path} =====\n")
        start = self._writer.characters
        digest = hashlib.sha256()
        last = ""
        try:
            for text in readable.texts():
                self._writer.write(text)
                digest.update(text.encode())
                last = text[-1:] or last
                self._progress(len(self._documents), self._bytes + readable.bytes)
        except RefusedError as error:
            self._left.add(piece.path, error.reason)  # the part that was read stays
        finally:
            readable.close()
        document = Document(
            path=piece.path,
            uri=piece.uri,
            start=start,
            end=self._writer.characters,
            first_line=piece.first_line,
            bytes=readable.bytes,
            encoding=readable.encoding,
        )
        if headed and last != "\n":
            self._writer.write("\n")
        self._hash.update(piece.path.encode() + b"\0" + digest.digest())
        self._index(document, index)
        self._documents.append(document)
        self._bytes += readable.bytes

    def _index(self, document: Document, index: IO[bytes]) -> None:
        if self._documents:
            index.write(b",")
        row = {
            "path": document.path,
            "start": document.start,
            "end": document.end,
            "firstLine": document.first_line,
        }
        index.write(msgspec.json.encode(row))
