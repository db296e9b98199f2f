"""One run's log: append-only JSON lines, each written before the event is sent anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rlm_server.errors import LogError
from rlm_server.protocol import ApprovalWanted, Event
from rlm_server.runs.chain import Reader, read
from rlm_server.runs.lines import mark_of
from rlm_server.text import to_json

_CHUNK = 1 << 18

LOCK_SECONDS = 0.1
"""How long it is tried to lock a log: who looks whether it is in use has it for a moment."""

GATHER_SECONDS = 0.01
"""What a follower waits for more, so that a burst of events is one read and one message out."""

PACE_SECONDS = 0.1
"""How far apart those bursts are while they go on and on: to wake a client costs it more than
what it is told."""

FLOOD = 40
"""So many events a second are more than anybody reads along with ..."""

FLOOD_SECONDS = 0.3
"""... and the bursts are so far apart then."""

AHEAD = 5
"""So many of them come as fast as they can before that, so that what is short is prompt."""


class RunLog:
    """The log of a live run, locked against other servers. Not for use from several threads."""

    def __init__(self, path: Path, *, again: bool = False) -> None:
        """Create the log, or open one ``again`` for more; a torn last line is cut off then.

        Raises LogError where that fails, where the log exists already (or does not, if again),
        and where another server is writing it.
        """
        self.path = path
        self.size = 0
        """Bytes of whole lines; readers stop here."""
        self.closed = False
        self._grown = asyncio.Event()
        self._awaited = 0
        """Bytes up to the end of the last event that somebody waits for."""
        self._hurry = asyncio.Event()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | (0 if again else os.O_CREAT | os.O_EXCL)
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _lock(self._fd)
            self.size = mend(self._fd) if again else 0
        except BlockingIOError as error:
            os.close(self._fd)
            raise _elsewhere(path) from error
        except OSError as error:
            os.close(self._fd)
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
        if isinstance(event, ApprovalWanted):
            self._awaited = self.size
            self._hurry.set()

    def release(self) -> None:
        """Let other servers have the log; nothing is written before ``claim``."""
        if not self.closed:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def claim(self) -> None:
        """Take a released log back. Raises LogError where others have removed or changed it."""
        if self.closed:
            raise _elsewhere(self.path)
        try:
            _lock(self._fd)
        except OSError as error:
            raise _elsewhere(self.path) from error
        found = os.fstat(self._fd)
        if found.st_size != self.size:
            self.release()
            raise _elsewhere(self.path)

    def close(self) -> None:
        """Close the file; whoever follows the log comes to its end."""
        if not self.closed:
            self.closed = True
            os.close(self._fd)
            self._wake()
            self._hurry.set()

    async def grown(self, offset: int) -> None:
        """Wait until there is more than ``offset`` bytes, or until the log is closed."""
        while self.size <= offset and not self.closed:
            await self._grown.wait()

    async def gather(self, offset: int, seconds: float) -> None:
        """Wait while more may come, but not for what somebody waits for after ``offset``."""
        if not self.closed and self._awaited <= offset:
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


def mend(descriptor: int) -> int:
    """Cut off the last line of a log where a crash has torn it; give the log's size."""
    size = end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _CHUNK)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def _lock(descriptor: int) -> None:
    """Lock a log against other servers. Raises OSError where one has it, or it was removed."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.001)
        else:
            if os.fstat(descriptor).st_nlink == 0:
                raise BlockingIOError("it was removed")
            return


def remove(path: Path) -> int:
    """Remove a log that no server is writing, and give its bytes. Raises LogError."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _lock(descriptor)  # so that nobody begins to write it meanwhile
        path.unlink()
        return os.fstat(descriptor).st_size
    except BlockingIOError as error:
        raise _elsewhere(path) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        os.close(descriptor)


def in_use(path: Path) -> bool:
    """Whether some server is writing a log."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


async def follow(path: Path, log: RunLog | None, from_seq: int) -> AsyncIterator[bytes]:
    """Yield a run's events from number ``from_seq`` on, as lines; of a live one, until it ends.

    What a fork shares with its parents comes from their logs. Lines that aren't whole, aren't
    events or belong to another run are passed over, and a notice in their place says so.
    """
    reader = await asyncio.to_thread(read, path)
    due, pace, clock = float("-inf"), PACE_SECONDS, asyncio.get_running_loop().time
    for number, line in enumerate(reader.earlier()):
        if _is_wanted(line, reader.run_id, from_seq):
            yield line
        if number % 500 == 0:
            await asyncio.sleep(0)
    with path.open("rb") as file:
        offset, rest = 0, b""
        while True:
            told = 0
            while chunk := file.read(_CHUNK):
                offset += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                told += len(lines)
                for line in _wanted(reader, lines, from_seq):
                    yield line
                await asyncio.sleep(0)
            if log is None or (log.closed and offset >= log.size):
                break
            await log.grown(offset)
            if not log.closed:
                pace = FLOOD_SECONDS if told > FLOOD * pace else PACE_SECONDS
                due = max(due + pace, clock() - (AHEAD - 1) * PACE_SECONDS)
                await log.gather(offset, due - clock() - GATHER_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
    for line in reader.finish():
        if _is_wanted(line, reader.run_id, from_seq):
            yield line


def _wanted(reader: Reader, lines: list[bytes], from_seq: int) -> list[bytes]:
    return [
        good
        for line in lines
        for good in reader.take(line)
        if _is_wanted(good, reader.run_id, from_seq)
    ]


def _is_wanted(line: bytes, run_id: str, from_seq: int) -> bool:
    if from_seq <= 0:
        return True
    mark = mark_of(line, run_id)
    return mark is not None and mark.seq >= from_seq


def _elsewhere(path: Path) -> LogError:
    return LogError(
        f"The run's log {path} is being written, or was removed, by another server.",
        cure="Cancel the run there, or wait for its end.",
    )


def _unwritable(path: Path, error: OSError) -> LogError:
    return LogError(
        f"The run's log {path} can't be written: {error}.",
        cure="Free some disk space, or set RLM_STATE to a directory that can be written.",
    )
