"""The mapped text: characters of one fixed width in a file, as CPython keeps a ``str``.

Layout: a header of 4096 bytes (magic, bytes a character, whether all is ASCII, number of
characters), the characters in the machine's byte order, at least four NUL bytes, padded to whole
pages. The width is always the narrowest that holds every character, as in a ``str``; the writer
starts at one byte and widens the file in place when a wider character comes.
"""

from __future__ import annotations

import os
import struct
import sys
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

HEADER = 4096
PAGE = 4096
_STRUCT = struct.Struct("<8sBB6xQ")
_MAGIC = b"RLMCTX01"
_FLUSH = 1 << 20
_ENDIAN = "le" if sys.byteorder == "little" else "be"
_CODECS = {1: "latin-1", 2: f"utf-16-{_ENDIAN}", 4: f"utf-32-{_ENDIAN}"}


class Lines:
    """How many newlines stand before some places of a text, a megabyte or so apart."""

    def __init__(self) -> None:
        self.offsets = [0]
        self.newlines = [0]

    def add(self, characters: int, newlines: int) -> None:
        """Note the next piece of the text."""
        self.offsets.append(self.offsets[-1] + characters)
        self.newlines.append(self.newlines[-1] + newlines)


class MappedWriter:
    """Writes a text piece by piece; holds a few megabytes of it at most."""

    def __init__(
        self,
        path: Path,
        *,
        grow: Callable[[int, int], None] = lambda size, more: None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the file, private to its owner.

        ``grow`` is called before the file grows, with the bytes that its characters will take
        and how many more than now that is, and may raise; so may ``checkpoint``, between chunks.
        """
        self.characters = 0
        self.lines = Lines()
        self._width = 1
        self._ascii = True
        self._written = 0
        self._held: list[str] = []
        self._held_characters = 0
        self._grow = grow
        self._checkpoint = checkpoint
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)

    def write(self, text: str) -> None:
        """Append text, which must have no lone surrogates."""
        self._held.append(text)
        self.characters += len(text)
        self._held_characters += len(text)
        if self._held_characters >= _FLUSH:
            self._flush()

    def finish(self) -> None:
        """Write what is held, the header and the NULs, and close the file."""
        self._flush()
        end = HEADER + self._written * self._width
        os.ftruncate(self._file, -(-(end + 8) // PAGE) * PAGE)
        header = _STRUCT.pack(_MAGIC, self._width, self._ascii, self._written)
        _write_at(self._file, header, 0)
        self.close()

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _flush(self) -> None:
        text = "".join(self._held)
        self._held, self._held_characters = [], 0
        for at in range(0, len(text), _FLUSH):
            self._checkpoint()
            self._append(text[at : at + _FLUSH])

    def _append(self, text: str) -> None:
        self._ascii = self._ascii and text.isascii()
        width = _width(text)
        if width > self._width:
            self._widen(width)
        self._grow((self._written + len(text)) * self._width, len(text) * self._width)
        data = text.encode(_CODECS[self._width])
        _write_at(self._file, data, HEADER + self._written * self._width)
        self._written += len(text)
        self.lines.add(len(text), text.count("\n"))

    def _widen(self, width: int) -> None:
        """Rewrite all characters in a greater width, from the end on, within the file."""
        old, self._width = self._width, width
        self._grow(self._written * width, self._written * (width - old))
        end = self._written
        while end:
            self._checkpoint()
            start = max(0, end - _FLUSH)
            data = _read_at(self._file, (end - start) * old, HEADER + start * old)
            data = data.decode(_CODECS[old]).encode(_CODECS[width])
            _write_at(self._file, data, HEADER + start * width)
            end = start


class MappedText:
    """Reads slices of a mapped text; as many threads as like may do so at once."""

    def __init__(self, path: Path, lines: Lines | None = None) -> None:
        """Open a file that MappedWriter made. Raises OSError, and ValueError for other files."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            header = os.pread(self._file, _STRUCT.size, 0).ljust(_STRUCT.size, b"\0")
            magic, self.width, is_ascii, self.characters = _STRUCT.unpack(header)
            size = os.fstat(self._file).st_size
            if (
                magic != _MAGIC
                or self.width not in _CODECS
                or HEADER + self.characters * self.width + 4 > size
            ):
                raise ValueError(f"{path} is not a mapped text")
        except BaseException:
            self.close()
            raise
        self.ascii = bool(is_ascii)
        self._lines = lines or Lines()

    def slice(self, start: int, end: int) -> str:
        """Give the characters from ``start`` to ``end``, counted from 0; reads nothing else."""
        start = max(0, start)
        end = min(end, self.characters)
        if start >= end:
            return ""
        data = _read_at(self._file, (end - start) * self.width, HEADER + start * self.width)
        return data.decode(_CODECS[self.width])

    def newlines_before(self, offset: int) -> int:
        """Count the newlines before an offset."""
        at = bisect_right(self._lines.offsets, offset) - 1
        place, count = self._lines.offsets[at], self._lines.newlines[at]
        while place < offset:
            text = self.slice(place, min(place + _FLUSH, offset))
            if not text:
                break
            count += text.count("\n")
            place += len(text)
        return count

    def line_start(self, number: int) -> int | None:
        """Give the offset behind the ``number``-th newline (0: the beginning), None beyond."""
        if number <= 0:
            return 0
        at = bisect_right(self._lines.newlines, number - 1) - 1
        place, count = self._lines.offsets[at], self._lines.newlines[at]
        while text := self.slice(place, place + _FLUSH):
            here = text.count("\n")
            if count + here >= number:
                return place + _behind_newline(text, number - count)
            count += here
            place += len(text)
        return None

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _behind_newline(text: str, number: int) -> int:
    """Find the offset behind the ``number``-th newline, counted from 1, which is there."""
    low, high = 0, len(text)
    while high - low > 4096:
        middle = (low + high) // 2
        here = text.count("\n", low, middle)
        if here >= number:
            high = middle
        else:
            low, number = middle, number - here
    for _ in range(number):
        low = text.index("\n", low) + 1
    return low


def _width(text: str) -> int:
    """Bytes a character that CPython needs for a text."""
    if text.isascii():
        return 1
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return 2 if len(text.encode(_CODECS[2])) == 2 * len(text) else 4
    return 1


def _write_at(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _read_at(file: int, size: int, at: int) -> bytes:
    parts = []
    while size:
        data = os.pread(file, size, at)
        if not data:
            raise OSError("the mapped text is shorter than its header says")
        parts.append(data)
        size, at = size - len(data), at + len(data)
    return b"".join(parts)
