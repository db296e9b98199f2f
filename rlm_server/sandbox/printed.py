"""What a cell prints: sent in small delays, kept whole for ``_result_N``.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import _thread
import io
import sys
import threading
import time
from typing import Any

from .channel import Channel, clean

_FLUSH_SECONDS = 0.03
_AT_ONCE = 8
"""Lines that are sent as they are printed, before those that follow soon are collected."""
_END_SECONDS = 1.0
_PIECE = 1 << 16
_KEEP = 8_000_000

_len, _isinstance, _str, _print = len, isinstance, str, print
_clock, _start, _lock = time.monotonic, _thread.start_new_thread, _thread.allocate_lock


class Recorder:
    """Collects what a cell prints, for the server in small delays and for ``_result_N`` whole."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._pending: list[tuple[str, str]] = []
        self._size = 0
        self._kept: list[str] = []
        self._kept_size = 0
        self._total = 0
        self._last = 0.0
        self._open = False
        self._sent = 0
        self._flusher: tuple[_thread.LockType, _thread.LockType] | None = None

    def start(self) -> None:
        """A cell begins."""
        self._pending, self._size = [], 0
        self._kept, self._kept_size, self._total = [], 0, 0
        self._last, self._open = 0.0, True
        self._flusher = None

    def after_fork(self) -> None:
        """Forget a thread that did not cross a fork."""
        self._lock = threading.RLock()

    def finish(self) -> str:
        """A cell has ended: send the rest, and return all that it printed."""
        self.flush()
        self._open = False
        self._end_flusher()
        text = "".join(self._kept)
        if self._total > self._kept_size:
            text += f"\n[{self._total:,} characters were printed; the rest is not kept]"
        return text

    def write(self, stream: str, text: str) -> None:
        """Take what was printed; thread-safe."""
        if not self._open or not text:
            return
        with self._lock:
            room = _KEEP - self._kept_size
            if room > 0:
                self._kept.append(text[:room])
                self._kept_size += _len(self._kept[-1])
            self._total += _len(text)
            for start in range(0, _len(text), _PIECE):
                self._pending.append((stream, text[start : start + _PIECE]))
                self._size += _len(self._pending[-1][1])
                if self._size > _PIECE // 4:
                    self.flush()
            if _clock() - self._last > _FLUSH_SECONDS:
                self._sent = 0
        if text.endswith("\n") and self._sent < _AT_ONCE:
            self._sent += 1
            self.flush()
        elif self._pending and self._flusher is None:
            self._start_flusher()

    def flush(self) -> None:
        """Send what is pending, neighbours of one stream together."""
        with self._lock:
            pending, self._pending, self._size = self._pending, [], 0
            self._last = _clock()
            try:
                while pending:
                    stream = pending[0][0]
                    count = 0
                    while count < _len(pending) and pending[count][0] == stream:
                        count += 1
                    text = clean("".join(part for _, part in pending[:count]))
                    del pending[:count]
                    self._channel.send(
                        {
                            "type": "output",
                            "token": self._channel.token,
                            "stream": stream,
                            "text": text,
                        }
                    )
            finally:  # an interrupt in between must not lose the rest
                self._pending[:0] = pending

    def _start_flusher(self) -> None:
        """Have what waits sent soon, also while the cell does nothing; at no cost to its end."""
        over, ended = _lock(), _lock()
        over.acquire()
        ended.acquire()
        try:
            _start(self._flush_often, (over, ended))
        except RuntimeError:  # no more threads: flushed at the end
            return
        self._flusher = over, ended

    def _flush_often(self, over: _thread.LockType, ended: _thread.LockType) -> None:
        while not over.acquire(timeout=_FLUSH_SECONDS):
            if self._pending:
                self.flush()
        ended.release()

    def _end_flusher(self) -> None:
        """Wait for the thread's end: one that a fork loses leaves its memory behind for good."""
        if self._flusher is not None:
            over, ended = self._flusher
            over.release()
            ended.acquire(timeout=_END_SECONDS)
            self._flusher = None


class Printed(io.TextIOBase):
    """``sys.stdout`` and ``sys.stderr`` of a cell."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, recorder: Recorder, stream: str) -> None:
        super().__init__()
        self._recorder = recorder
        self._stream = stream
        self.buffer = _Bytes(self)

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str) -> int:
        """Record text."""
        if not _isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._recorder.write(self._stream, text)
        return _len(text)

    def flush(self) -> None:
        """Send what is pending."""
        self._recorder.flush()


class _Bytes(io.RawIOBase):
    """``sys.stdout.buffer``, for code that prints bytes."""

    def __init__(self, printed: Printed) -> None:
        super().__init__()
        self._printed = printed

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._printed.write(raw.decode("utf-8", "replace"))
        return _len(raw)


def print_whole(
    *values: Any,
    sep: str | None = " ",
    end: str | None = "\n",
    file: Any = None,
    flush: bool = False,
) -> None:
    """Print as ``print`` does, which would write each value, blank and line end by itself."""
    out = sys.stdout if file is None else file
    if type(out) is not Printed or not _texts(sep, end):
        _print(*values, sep=sep, end=end, file=file, flush=flush)
        return
    parts: list[str] = []
    try:
        for value in values:
            parts.append(_str(value))
    except BaseException:  # what stands before it is printed all the same
        out.write((" " if sep is None else sep).join([*parts, ""]))
        raise
    out.write((" " if sep is None else sep).join(parts) + ("\n" if end is None else end))
    if flush:
        out.flush()


def _texts(*values: Any) -> bool:
    return all(value is None or type(value) is _str for value in values)


print_whole.__name__ = print_whole.__qualname__ = "print"
print_whole.__module__ = "builtins"
print_whole.__doc__ = _print.__doc__
