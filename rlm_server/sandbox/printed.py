"""What a cell prints: sent in small delays, kept whole for ``_result_N``.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import _thread
import io
import threading
import time
from typing import Any

from .channel import Channel, clean
from .fixed import real_sleep

_FLUSH_SECONDS = 0.03
_PIECE = 1 << 16
_KEEP = 8_000_000

_len, _isinstance = len, isinstance
_clock, _start = time.monotonic, _thread.start_new_thread


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
        self._cell = 0
        self._flushing = False

    def start(self) -> None:
        """A cell begins."""
        self._pending, self._size = [], 0
        self._kept, self._kept_size, self._total = [], 0, 0
        self._last, self._open = 0.0, True
        self._cell, self._flushing = self._cell + 1, False

    def after_fork(self) -> None:
        """Forget a thread that did not cross a fork."""
        self._lock = threading.RLock()

    def finish(self) -> str:
        """A cell has ended: send the rest, and return all that it printed."""
        self.flush()
        self._open = False
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
            quiet = _clock() - self._last > _FLUSH_SECONDS
        if quiet and text.endswith("\n"):
            self.flush()
        elif self._pending and not self._flushing:
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
        try:
            _start(self._flush_often, (self._cell,))
        except RuntimeError:  # no more threads: flushed at the end
            return
        self._flushing = True

    def _flush_often(self, cell: int) -> None:
        real_sleep(_FLUSH_SECONDS)
        while self._open and self._cell == cell:
            if self._pending:
                self.flush()
            real_sleep(_FLUSH_SECONDS)


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
