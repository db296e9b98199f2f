"""The inner end of the channel: frames both ways, for any thread of a cell.

Runs inside the sandbox: standard library only. Names that the model's code may replace in
``builtins`` or in modules are taken at import.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

MAX_FRAME = 16 << 20

_encode = json.JSONEncoder(ensure_ascii=False).encode
_decode = json.JSONDecoder().decode
_len = len
_lock = threading.Lock
_nestable_lock = threading.RLock  # what a collector frees may make calls


def clean(text: str) -> str:
    """Replace what JSON parsers stumble over: lone surrogates and NUL."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\u2400")


class Interrupts:
    """SIGINT ends a running cell, but never in the middle of a frame, nor with a lock held."""

    def __init__(self) -> None:
        self.armed = False
        self._shields = 0
        self._open = False
        self._pending = False
        self._main = threading.get_ident()

    def handler(self, signum: int, frame: object) -> None:
        """Raise KeyboardInterrupt in the cell, or after the frame that is being moved."""
        if not self.armed:
            return
        if self._shields and not self._open:
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

    def wait(self, block: Callable[[], object]) -> None:
        """Within a shield, call what blocks in one C function: that alone may be interrupted."""
        if threading.get_ident() != self._main:
            block()
            return
        try:
            self._open = True
            if not self._pending:
                block()
        finally:
            self._open = False

    def disarm(self) -> None:
        """Let later signals pass unnoticed."""
        self.armed = False
        self._pending = False


class AbandonedError(Exception):
    """The replies that a thread waits for will never come."""


class Batch:
    """The calls of one thread that waits for them."""

    def __init__(self) -> None:
        self.arrived: list[tuple[int, dict[str, Any]]] = []
        self.ended = False

    def reply(self) -> dict[str, Any] | None:
        """The first reply, where there is one yet."""
        return self.arrived[0][1] if self.arrived else None


class Channel:
    """Frames out and in.

    Whichever thread waits reads for all of them, so no thread is needed that a fork would lose.
    """

    def __init__(self, sock: socket.socket, interrupts: Interrupts) -> None:
        self._socket = sock
        self._interrupts = interrupts
        self._buffer = bytearray()
        self._sending = _lock()
        self._state = _nestable_lock()
        self._gates: list[threading.Lock] = []
        self._reading = False
        self._waiting: dict[int, tuple[Batch, int]] = {}
        self._orders: list[dict[str, Any]] = []
        self._numbers = 0
        self.token = ""
        self.window = 128
        self._sure = ""

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

    @staticmethod
    def encode(message: dict[str, Any]) -> bytes:
        """Encode a message as one frame's content."""
        return _encode(message).encode()

    def pending(self) -> bool:
        """Whether an order waits already."""
        return bool(self._orders) or bool(select.select([self._socket], [], [], 0)[0])

    def after_fork(self, sock: socket.socket | None = None) -> None:
        """Forget threads that did not cross a fork; with a new socket, also what was half read."""
        self._sending = _lock()
        self._state = _nestable_lock()
        self._gates.clear()
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

    def wait_until_sure(self) -> None:
        """Wait until the server says that this cell was to run; one that was not is killed."""
        self._wait(lambda: self._sure == self.token)

    def abandon(self) -> None:
        """The cell has ended: whatever its threads still wait for never comes."""
        with self._interrupts, self._state:
            for batch, _ in self._waiting.values():
                batch.ended = True
            self._waiting.clear()
            self._wake()

    def ask(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make calls, as many at once as allowed, and wait for all the replies, in order."""
        batch = Batch()
        token = self.token
        replies: list[dict[str, Any] | None] = [None] * _len(calls)
        sent = got = 0
        try:
            while got < _len(calls):
                while sent < _len(calls) and (
                    sent == got or _len(self._waiting) < self.window  # one may always go
                ):
                    self._call(batch, sent, token, calls[sent])
                    sent += 1
                self._wait(lambda: bool(batch.arrived) or batch.ended)
                if batch.ended:
                    raise AbandonedError("the cell that asked has ended")
                while batch.arrived:
                    number, reply = batch.arrived.pop()
                    replies[number] = reply
                    got += 1
        finally:
            if got < sent:
                self._forget(batch)
        return [reply for reply in replies if reply is not None]

    def begin(self, call: dict[str, Any]) -> Batch:
        """Make a call without waiting for it; raises ValueError where it is too long."""
        batch = Batch()
        try:
            self._call(batch, 0, self.token, call)
        except BaseException:
            self._forget(batch)
            raise
        return batch

    def finish(self, batch: Batch) -> dict[str, Any]:
        """Wait for the reply to such a call; raises AbandonedError."""
        self._wait(lambda: bool(batch.arrived) or batch.ended)
        reply = batch.reply()
        if reply is None:
            raise AbandonedError("the cell that asked has ended")
        return reply

    def full(self) -> bool:
        """Whether as many calls are in flight as may be."""
        return _len(self._waiting) >= self.window

    def _forget(self, batch: Batch) -> None:
        with self._interrupts, self._state:
            for key in [k for k, (b, _) in self._waiting.items() if b is batch]:
                del self._waiting[key]

    def _call(self, batch: Batch, place: int, token: str, call: dict[str, Any]) -> None:
        with self._interrupts, self._state:
            self._numbers += 1
            number = self._numbers
            self._waiting[number] = (batch, place)
        self.send({"type": "call", "id": number, "token": token, **call})

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Return once that is so; one thread reads for all, the others wait at gates meanwhile."""
        while True:
            with self._interrupts:
                gate = None
                with self._state:
                    if ready():
                        return
                    if self._reading:
                        gate = _lock()
                        gate.acquire()
                        self._gates.append(gate)
                    self._reading = True
                if gate is not None:
                    self._wait_at(gate)
                    continue
                try:
                    self._read()
                finally:
                    with self._state:
                        self._reading = False
                        self._wake()

    def _wait_at(self, gate: threading.Lock) -> None:
        """Wait for the thread that reads, which has to get at the state meanwhile."""
        state: Any = self._state
        held = state._release_save() if state._is_owned() else None  # by whom this was called
        try:
            self._interrupts.wait(gate.acquire)
        finally:
            if held is not None:
                state._acquire_restore(held)

    def _wake(self) -> None:
        while self._gates:
            self._gates.pop().release()

    def _read(self) -> None:
        """Wait for bytes, then take them and what they complete."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        self._interrupts.wait(poller.poll)
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
        with self._state:
            if message["type"] == "sure":
                self._sure = message["token"]
                return
            if message["type"] != "reply":
                self._orders.append(message)
                return
            waiting = self._waiting.pop(message["id"], None)
            if waiting is not None:
                batch, place = waiting
                batch.arrived.append((place, message))
