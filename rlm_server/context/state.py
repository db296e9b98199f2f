"""The state of sources: what tells, without reading, that their texts are as they were.

A file counts as unchanged while its device, inode, size and times of change are what they were.
What the client has spooled is new each time, so that is compared by its content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from rlm_server.config import ContextConfig
from rlm_server.context.corpus import Document
from rlm_server.context.plan import Piece
from rlm_server.context.reading import CHUNK
from rlm_server.context.reasons import LeftOuts

RACY_SECONDS = 2
"""A file that changed so recently could change again and keep its times: clocks are coarse."""


class State:
    """Looks at pieces as they pass."""

    def __init__(self, checkpoint: Callable[[], None], *, reading: bool) -> None:
        """``reading``: also find ``key``, for which spooled files are read."""
        self._checkpoint = checkpoint
        self._reading = reading
        self._key = hashlib.sha256()
        self._seen = hashlib.sha256()
        self._sizes: dict[str, int] = {}
        self._newest = 0

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Pass the pieces on; each is looked at before it is given, so before it is read."""
        for piece in pieces:
            self._look(piece)
            yield piece

    def key(self, left: LeftOuts, config: ContextConfig, reader: Sequence[str]) -> str:
        """Give the name of the state, in hexadecimal, when all pieces have passed.

        ``left``: what the walk left out. ``reader`` says how texts are read and kept.
        """
        rest = (left.first, left.counts, config.max_bytes, reader)
        self._key.update(msgspec.msgpack.encode(rest))
        return self._key.hexdigest()

    def confirms(self, other: State, documents: Iterable[Document], started: float) -> bool:
        """Say whether this state is what ``other`` was, and what was read is all of it.

        ``started``: when ``other`` began, in seconds since 1970. Files that changed just before
        are not trusted, nor those whose size is not what could be read, as in ``/proc``.
        """
        if self._seen.digest() != other._seen.digest():
            return False
        if self._newest > (started - RACY_SECONDS) * 1e9:
            return False
        sizes = self._sizes
        return all(sizes.get(d.path, d.bytes) == d.bytes for d in documents)

    def _look(self, piece: Piece) -> None:
        row = (piece.path, piece.uri, piece.first_line, piece.limit, piece.spooled, piece.follow)
        head = msgspec.msgpack.encode(row)
        if piece.text is not None:
            text = hashlib.sha256(piece.text.encode("utf-8", "surrogatepass")).digest()
            self._note(head + b"text", text, text)
            return
        try:
            info = os.stat(piece.file, follow_symlinks=piece.follow)  # noqa: PTH116
        except (OSError, ValueError) as error:
            gone = repr((getattr(error, "errno", None), type(error).__name__)).encode()
            self._note(head + b"gone", gone, gone)
            return
        times = (info.st_mtime_ns, info.st_ctime_ns)
        identity = (info.st_dev, info.st_ino, info.st_mode, info.st_size, *times)
        looks = repr(identity).encode()
        self._sizes[piece.path] = info.st_size
        if not piece.spooled:
            self._newest = max(self._newest, *times)
            self._note(head + b"file", looks, looks)
        elif self._reading and info.st_size <= piece.limit:
            self._note(head + b"spool", looks, self._content(piece.file))
        else:
            self._note(head + b"spool", looks, b"%d" % info.st_size)

    def _note(self, head: bytes, looks: bytes, content: bytes) -> None:
        for digest, tail in ((self._seen, looks), (self._key, content)):
            digest.update(b"%d %d\n" % (len(head), len(tail)))
            digest.update(head)
            digest.update(tail)

    def _content(self, file: str) -> bytes:
        digest = hashlib.sha256()
        try:
            with open(file, "rb", buffering=0) as spool:  # noqa: PTH123
                while chunk := spool.read(CHUNK):
                    self._checkpoint()
                    digest.update(chunk)
        except OSError as error:
            return repr(error.errno).encode()
        return digest.digest()
