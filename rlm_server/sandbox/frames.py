"""Frames over a socket: a 4-byte length, then JSON; bounded in size, typed, with back-pressure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

MAX_FRAME = 16 << 20
"""Bytes; a longer frame is a broken or hostile peer."""

_HEADER = 4
_BUFFER = 1 << 18
_QUEUE_HIGH = 8 << 20
_WRITE_HIGH = 4 << 20

Message = TypeVar("Message")


class FrameError(Exception):
    """The peer sent something that is no frame, or no message that was agreed on."""


def pack(payload: bytes) -> bytes:
    """Prefix a payload with its length."""
    return len(payload).to_bytes(_HEADER, "big") + payload


class Frames(asyncio.BufferedProtocol, Generic[Message]):
    """One end of the channel: received messages wait in a queue that stops reading when full.

    The length of a frame is checked before memory is taken for it, and its content is decoded
    into a known type; whatever fails either check ends the channel with a ``FrameError``.
    """

    def __init__(self, decode: Callable[[bytes | memoryview], Message]) -> None:
        self._decode = decode
        self._buffer = bytearray(_BUFFER)
        self._have = 0
        self._large: bytearray | None = None  # a frame that does not fit the buffer
        self._large_have = 0
        self._queue: deque[tuple[int, Message]] = deque()
        self._queued = 0
        self._arrived = asyncio.Event()
        self._end: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent or received."""
        return self._end is not None

    async def get(self) -> Message:
        """Return the next message; raises EOFError or FrameError once the channel has ended."""
        while not self._queue:
            if self._end is not None:
                raise self._end
            self._arrived.clear()
            await self._arrived.wait()
        size, message = self._queue.popleft()
        self._queued -= size
        if self._paused and self._queued < _QUEUE_HIGH // 2 and self._end is None:
            assert self._transport is not None
            self._paused = False
            self._transport.resume_reading()
        return message

    async def send(self, payload: bytes) -> None:
        """Send one frame when the peer has read enough; raises EOFError where it is gone."""
        await self._writable.wait()
        if self._end is not None:
            raise EOFError
        assert self._transport is not None
        self._transport.write(pack(payload))

    def post(self, payload: bytes) -> None:
        """Send a frame of a few bytes without waiting; nothing happens where the peer is gone."""
        if self._end is None and self._transport is not None:
            self._transport.write(pack(payload))

    def end(self, error: Exception) -> None:
        """End the channel: what was queued is forgotten, and ``get`` raises this error."""
        if self._end is None:
            self._end = error
        self._queue.clear()
        self._arrived.set()
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go."""
        if self._large is not None:
            return memoryview(self._large)[self._large_have :]
        return memoryview(self._buffer)[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        """Cut what has arrived into frames."""
        if self._large is not None:
            self._large_have += nbytes
            if self._large_have == len(self._large):
                frame, self._large = self._large, None
                self._accept(memoryview(frame))
            return
        self._have += nbytes
        self._cut()

    def eof_received(self) -> None:
        """Let the waiting reader know."""
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let waiting readers and writers know."""
        self._finish()

    def pause_writing(self) -> None:
        """Hold back senders: the peer isn't reading."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._writable.set()

    # ------------------------------------------------------------------------------------- inside

    def _finish(self) -> None:
        if self._end is None:
            self._end = EOFError()
        self._arrived.set()
        self._writable.set()

    def _cut(self) -> None:
        view = memoryview(self._buffer)
        position = 0
        while self._end is None and self._have - position >= _HEADER:
            length = int.from_bytes(view[position : position + _HEADER], "big")
            if length > MAX_FRAME:
                self.end(FrameError(f"a frame of {length} bytes"))
                return
            start, stop = position + _HEADER, position + _HEADER + length
            if stop <= self._have:
                self._accept(view[start:stop])
                position = stop
            elif length > _BUFFER - _HEADER:
                self._large = bytearray(length)
                self._large_have = self._have - start
                self._large[: self._large_have] = view[start : self._have]
                position = self._have
            else:
                break
        if position:
            rest = bytes(view[position : self._have])
            self._buffer[: len(rest)] = rest
            self._have = len(rest)

    def _accept(self, frame: memoryview) -> None:
        try:
            message = self._decode(frame)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self.end(FrameError(str(error)[:200]))
            return
        # An empty object still costs memory in the queue, so each frame counts a little extra.
        size = len(frame) + 256
        self._queue.append((size, message))
        self._queued += size
        self._arrived.set()
        if self._queued > _QUEUE_HIGH and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()
