"""The inner end of the channel: frames, printed output, and calls from any thread of a cell.

Runs inside the sandbox: standard library only. Names that the model's code may replace in
``builtins`` or in modules are taken at import.
"""

from __future__ import annotations

import io
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

MAX_FRAME = 16 << 20
MAX_PROMPT = 8_000_000
_FLUSH_SECONDS = 0.03
_PIECE = 1 << 16
_KEEP = 8_000_000

_encode = json.JSONEncoder(ensure_ascii=False).encode
_decode = json.JSONDecoder().decode
_len, _str, _isinstance = len, str, isinstance
_clock = time.monotonic


def clean(text: str) -> str:
    """Replace what JSON parsers stumble over: lone surrogates and NUL."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\u2400")


class Interrupts:
    """SIGINT ends a running cell, but never in the middle of a frame."""

    def __init__(self) -> None:
        self.armed = False
        self._shields = 0
        self._pending = False
        self._main = threading.get_ident()

    def handler(self, signum: int, frame: object) -> None:
        """Raise KeyboardInterrupt in the cell, or after the frame that is being moved."""
        if not self.armed:
            return
        if self._shields:
            self._pending = True
            return
        raise KeyboardInterrupt

    def __enter__(self) -> None:
        if threading.get_ident() == self._main:  # signal handlers run in the main thread only
            self._shields += 1

    def __exit__(self, *exc: object) -> None:
        if threading.get_ident() == self._main:
            self._shields -= 1
            if self._pending and not self._shields:
                self._pending = False
                if self.armed:
                    raise KeyboardInterrupt

    def disarm(self) -> None:
        """Let later signals pass unnoticed."""
        self.armed = False
        self._pending = False


class SubcallError(Exception):
    """A call to a model failed; ``kind`` is its stable name, ``cure`` says what may help."""

    def __init__(self, message: str, kind: str = "", cure: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.cure = cure


class SubcallAnswer(str):
    """A model's answer: a ``str`` that knows what it cost."""

    usage: SimpleNamespace
    model: str
    cached: bool


class SubcallFailure(str):
    """Stands in a batch's list for an answer that never came; ``error`` says why."""

    error: SubcallError


class _Batch:
    """The calls of one thread that waits for them."""

    def __init__(self) -> None:
        self.arrived: list[tuple[int, dict[str, Any]]] = []
        self.ended = False


class Channel:
    """Frames out and in.

    Whichever thread waits reads for all of them, so no thread is needed that a fork would lose.
    """

    def __init__(self, sock: socket.socket, interrupts: Interrupts) -> None:
        self._socket = sock
        self._interrupts = interrupts
        self._buffer = bytearray()
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._reading = False
        self._waiting: dict[int, tuple[_Batch, int]] = {}
        self._orders: list[dict[str, Any]] = []
        self._numbers = 0
        self.token = ""
        self.window = 64

    @staticmethod
    def decode(payload: bytes) -> dict[str, Any]:
        """Decode one frame's content."""
        message: dict[str, Any] = _decode(payload.decode())
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; raises ValueError where it is too long for a frame."""
        payload = _encode(message).encode()
        size = payload.__len__()
        if size > MAX_FRAME:
            raise ValueError(f"{size:,} bytes are too much to send; the limit is {MAX_FRAME:,}")
        with self._interrupts, self._sending:
            self._socket.sendall(size.to_bytes(4, "big") + payload)

    def after_fork(self, sock: socket.socket | None = None) -> None:
        """Forget threads that did not cross a fork; with a new socket, also what was half read."""
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._reading = False
        self._waiting.clear()
        if sock is not None:
            self._socket.close()
            self._socket = sock
            self._buffer.clear()
            self._orders.clear()

    def order(self) -> dict[str, Any]:
        """Wait for the server's next order."""
        self._wait(lambda: bool(self._orders))
        return self._orders.pop(0)

    def abandon(self) -> None:
        """The cell has ended: whatever its threads still wait for never comes."""
        with self._changed:
            for batch, _ in self._waiting.values():
                batch.ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def ask(self, prompts: list[str], model: str | None) -> list[dict[str, Any]]:
        """Make calls, as many at once as allowed, and wait for all the replies, in order."""
        batch = _Batch()
        token = self.token
        replies: list[dict[str, Any] | None] = [None] * _len(prompts)
        sent = got = 0
        try:
            while got < _len(prompts):
                while sent < _len(prompts) and (
                    sent == got or _len(self._waiting) < self.window  # one may always go
                ):
                    self._call(batch, sent, token, prompts[sent], model)
                    sent += 1
                self._wait(lambda: bool(batch.arrived) or batch.ended)
                if batch.ended:
                    raise SubcallError("the cell that asked has ended", "ended")
                while batch.arrived:
                    number, reply = batch.arrived.pop()
                    replies[number] = reply
                    got += 1
        finally:
            if got < sent:
                with self._changed:
                    for key in [k for k, (b, _) in self._waiting.items() if b is batch]:
                        del self._waiting[key]
        return [reply for reply in replies if reply is not None]

    def _call(self, batch: _Batch, place: int, token: str, prompt: str, model: str | None) -> None:
        with self._changed:
            self._numbers += 1
            number = self._numbers
            self._waiting[number] = (batch, place)
        self.send(
            {
                "type": "call",
                "id": number,
                "function": "llm_query",
                "prompt": prompt,
                "model": model,
                "token": token,
            }
        )

    def _wait(self, ready: Callable[[], bool]) -> None:
        while True:
            with self._changed:
                while self._reading and not ready():
                    self._changed.wait()
                if ready():
                    return
                self._reading = True
            try:
                self._read()
            finally:
                with self._changed:
                    self._reading = False
                    self._changed.notify_all()

    def _read(self) -> None:
        """Wait for bytes, interruptibly, then take them and what they complete, in one go."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.poll()
        with self._interrupts:
            try:
                data = self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not data:
                os._exit(0)  # the server is gone
            self._buffer += data
            while self._buffer.__len__() >= 4:
                stop = 4 + int.from_bytes(self._buffer[:4], "big")
                if self._buffer.__len__() < stop:
                    return
                message = _decode(self._buffer[4:stop].decode())
                del self._buffer[:stop]
                self._deliver(message)

    def _deliver(self, message: dict[str, Any]) -> None:
        with self._changed:
            if message["type"] != "reply":
                self._orders.append(message)
                return
            waiting = self._waiting.pop(message["id"], None)
            if waiting is not None:
                batch, place = waiting
                batch.arrived.append((place, message))


for _class in (SubcallError, SubcallAnswer, SubcallFailure):
    _class.__module__ = "__main__"  # so that tracebacks and reprs show the bare name


class Calls:
    """``llm_query`` and ``llm_query_batched`` as the model's code sees them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def llm_query(self, prompt: str, model: str | None = None) -> SubcallAnswer:
        """Ask a model; raises SubcallError where that fails."""
        reply = self._channel.ask([_prompt(prompt)], _model(model))[0]
        if reply["error"] is not None:
            raise _error(reply)
        return _answer(reply)

    def llm_query_batched(
        self, prompts: Iterable[str], model: str | None = None
    ) -> list[SubcallAnswer | SubcallFailure]:
        """Ask many prompts at once; a failed one gives a SubcallFailure in its place."""
        if _isinstance(prompts, str):
            raise TypeError("llm_query_batched takes a list of prompts; for one, use llm_query")
        asked = [_prompt(prompt) for prompt in prompts]
        replies = self._channel.ask(asked, _model(model))
        return [_answer(r) if r["error"] is None else _failure(r) for r in replies]


def _prompt(prompt: object) -> str:
    text: str = prompt if isinstance(prompt, str) else _str(prompt)
    if _len(text) > MAX_PROMPT:
        raise ValueError(
            f"a prompt of {_len(text):,} characters is too long (limit {MAX_PROMPT:,}); "
            "send a slice of the text"
        )
    return clean(_str(text))


def _model(model: object) -> str | None:
    return None if model is None else clean(_str(model))


def _error(reply: dict[str, Any]) -> SubcallError:
    error = reply["error"]
    text = f"{error['message']} {error['cure']}".strip()
    return SubcallError(text, error["kind"], error["cure"])


def _answer(reply: dict[str, Any]) -> SubcallAnswer:
    answer = SubcallAnswer(reply["text"])
    answer.usage = SimpleNamespace(**reply["usage"])
    answer.model, answer.cached = reply["model"], reply["cached"]
    return answer


def _failure(reply: dict[str, Any]) -> SubcallFailure:
    error = _error(reply)
    failure = SubcallFailure(f"[this call failed: {error}]")
    failure.error = error
    return failure


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
        self._flusher: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """A cell begins."""
        self._pending, self._size = [], 0
        self._kept, self._kept_size, self._total = [], 0, 0
        self._last, self._open = 0.0, True

    def finish(self) -> str:
        """A cell has ended: send the rest, and return all that it printed."""
        self.flush()
        self._open = False
        if self._flusher is not None:
            self._stop.set()
            self._flusher.join()
            self._flusher = None
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
        self._stop = threading.Event()
        thread = threading.Thread(target=self._flush_often, args=(self._stop,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: flushed at the end
            return
        self._flusher = thread

    def _flush_often(self, stop: threading.Event) -> None:
        while not stop.wait(_FLUSH_SECONDS):
            if self._pending:
                self.flush()


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
