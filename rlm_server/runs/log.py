"""One run's log: append-only JSON lines, each written before the event is sent anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from rlm_server.errors import LogError
from rlm_server.protocol import Event
from rlm_server.text import to_json

_CHUNK = 1 << 18


class RunLog:
    """The log of a live run. Not for use from several threads."""

    def __init__(self, path: Path) -> None:
        """Create the log; raises LogError where that fails or where it exists already."""
        self.path = path
        self.size = 0
        """Bytes of whole lines; readers stop here."""
        self.closed = False
        self._grown = asyncio.Event()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, event: Event) -> None:
        """Write one event as one line; raises LogError, and keeps only whole lines, if it can't."""
        if self.closed:
            raise LogError(f"The run's log {self.path} is closed.")
        line = to_json(event) + b"\n"
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                written += os.write(self._fd, line[written:])
            if written != len(line):
                raise OSError("the disk takes no more")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise _unwritable(self.path, error) from error
        self.size += len(line)
        self._wake()

    def close(self) -> None:
        """Close the file; whoever follows the log comes to its end."""
        if not self.closed:
            self.closed = True
            os.close(self._fd)
            self._wake()

    async def grown(self, offset: int) -> None:
        """Wait until there is more than ``offset`` bytes, or until the log is closed."""
        while self.size <= offset and not self.closed:
            await self._grown.wait()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class _Seq(msgspec.Struct):
    seq: int


_seq_decoder = msgspec.json.Decoder(_Seq)


async def follow(path: Path, log: RunLog | None, from_seq: int) -> AsyncIterator[bytes]:
    """Yield the lines of a log from event ``from_seq`` on; of a live one, until it is closed.

    Lines that aren't whole or aren't events (a crash tore them) are passed over.
    """
    with path.open("rb") as file:
        offset, rest = 0, b""
        while True:
            while chunk := file.read(_CHUNK):
                offset += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if _seq_of(line) >= from_seq:
                        yield line
                await asyncio.sleep(0)
            if log is None:
                return
            if log.closed and offset >= log.size:
                return
            await log.grown(offset)


def _seq_of(line: bytes) -> int:
    try:
        return _seq_decoder.decode(line).seq
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return -1


def _unwritable(path: Path, error: OSError) -> LogError:
    return LogError(
        f"The run's log {path} can't be written: {error}.",
        cure="Free some disk space, or set RLM_STATE to a directory that can be written.",
    )
