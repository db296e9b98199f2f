"""Opening a file: never a device or a pipe, never more than it held when it was opened."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Callable, Iterator

from rlm_server.context.decode import byte_order_mark, decoded, guess, is_binary
from rlm_server.context.reasons import Reason, reason_of

CHUNK = 1 << 20
"""Bytes read, decoded and written at a time: a few milliseconds without another thread."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class RefusedError(Exception):
    """A file is not to be read; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class TextFile:
    """An opened file that holds text; a small one has been read already."""

    def __init__(
        self,
        path: str,
        *,
        limit: int,
        spooled: bool = False,
        follow: bool = False,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a file and find its encoding.

        ``limit``: bytes. ``spooled``: it was written for us, so it is UTF-8 and always text.
        ``follow``: it may be a symbolic link. ``checkpoint`` is called between chunks and may
        raise. Raises RefusedError.
        """
        self.bytes = 0
        """Bytes read so far."""
        self._checkpoint = checkpoint
        self._file = _open(path, follow)
        try:
            size = os.fstat(self._file).st_size
            if size > limit:
                raise RefusedError("too large")
            # A file of the kernel's says that it is empty, and isn't.
            self._size = size or min(limit, CHUNK)
            self._head = self._read(0, CHUNK)
            self.size = self._size if len(self._head) == CHUNK else len(self._head)
            """Bytes of the file as it was opened."""
            if not spooled and is_binary(self._head):
                raise RefusedError("binary")
            self.encoding, self._mark = self._choose(spooled)
        except OSError as error:
            self.close()
            raise RefusedError(reason_of(error)) from error
        except BaseException:
            self.close()
            raise
        if self.size <= CHUNK:
            self.close()

    def texts(self) -> Iterator[str]:
        r"""Decode piece by piece, "\r\n" as "\n"; closes the file. Raises RefusedError."""
        try:
            yield from decoded(self._chunks(count=True), self.encoding)
        except OSError as error:
            raise RefusedError(reason_of(error)) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _choose(self, spooled: bool) -> tuple[str, int]:
        """Find the encoding and the length of the byte order mark."""
        mark = byte_order_mark(self._head)
        if mark is not None and (mark[0] == "utf-8" or not spooled):
            return mark
        if spooled:
            return "utf-8", 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        chunk = b""
        try:
            for chunk in self._chunks(count=False):
                if decoder.getstate()[0] or not chunk.isascii():
                    decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            # What the decoder held back from the chunk before shifts the place a little.
            return guess(self._head, chunk[max(0, error.start - 2048) :]), 0
        return "utf-8", 0

    def _chunks(self, *, count: bool) -> Iterator[bytes]:
        """Give the file's bytes from the beginning, without the byte order mark if counting."""
        at, chunk = 0, self._head
        while chunk:
            self._checkpoint()
            if count:
                self.bytes += len(chunk)
                yield chunk[self._mark :] if at == 0 else chunk
            else:
                yield chunk
            at += len(chunk)
            chunk = self._read(at, CHUNK) if self._file >= 0 else b""

    def _read(self, at: int, most: int) -> bytes:
        """Read up to ``most`` bytes, fewer only at the end of what the file held at first."""
        most = min(most, self._size - at)
        data = os.pread(self._file, most, at) if most else b""
        while data and len(data) < most:
            more = os.pread(self._file, most - len(data), at + len(data))
            if not more:
                break
            data += more
        return data


def _open(path: str, follow: bool) -> int:
    """Open what is a regular file before and after; opening a device could have effects."""
    try:
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode):  # noqa: PTH116
            raise RefusedError("not a file")
        file = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    except OSError as error:
        raise RefusedError(reason_of(error)) from error
    except ValueError as error:  # a NUL in the path
        raise RefusedError("gone") from error
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise RefusedError("not a file")
