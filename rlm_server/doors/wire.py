"""The wire: JSON-RPC messages with Content-Length headers over two asyncio streams."""

from __future__ import annotations

import asyncio

MAX_BODY = 64 << 20
"""Bytes of one message; longer texts go by path."""

MAX_HEADER = 4096

EVENTS_SIZE = 64 << 10
"""Bytes after which no more events go into one message: it keeps Emacs busy for a millisecond."""


class TooLong(Exception):  # noqa: N818 - named for what the message is
    """A message exceeds ``MAX_BODY``; it was read past, and the connection is in step."""


class Wire:
    """Reads and writes message bodies of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.max_body = MAX_BODY
        """Bytes of the longest message that is taken."""
        self._reader = reader
        self._writer = writer
        self._unsent: list[bytes] = []
        self._events: list[bytes] = []
        self._size = 0

    async def read(self) -> bytes | None:
        """The next message's body; None at the end of the stream. Raises TooLong.

        Lines that are no header are passed over, so that stray text doesn't end the connection.
        """
        try:
            length = None
            while True:
                line = await self._line()
                if line == b"":
                    return None
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"content-length" and value.strip().isdigit():
                    length = int(value)
                elif not line.strip() and length is not None:
                    break
            if length > self.max_body:
                await self._skip(length)
                raise TooLong(f"a message of {length:,} bytes; at most {self.max_body:,} are taken")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def write(self, body: bytes) -> None:
        """Send a message; it waits in memory while the other side does not read."""
        self._pack()
        self._send_soon()
        self._frame(body)

    def event(self, line: bytes) -> None:
        """Send an event of a run, which is JSON already, in one message with those beside it."""
        self._send_soon()
        self._events.append(line)
        self._size += len(line)
        if self._size >= EVENTS_SIZE:
            self._pack()

    async def drain(self) -> None:
        """Wait until the other side has read most of what was sent. Raises ConnectionError."""
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection."""
        self._send()
        self._writer.close()

    def _send_soon(self) -> None:
        # What is written in one go is sent in one go: each wakes the other side once.
        if not self._unsent and not self._events:
            asyncio.get_running_loop().call_soon(self._send)

    def _pack(self) -> None:
        if self._events:
            events, self._events, self._size = b",".join(self._events), [], 0
            self._frame(
                b'{"jsonrpc":"2.0","method":"rlm/events","params":{"events":[%b]}}' % events
            )

    def _frame(self, body: bytes) -> None:
        self._unsent.append(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def _send(self) -> None:
        self._pack()
        unsent, self._unsent = self._unsent, []
        if unsent and not self._writer.is_closing():
            self._writer.write(b"".join(unsent))

    async def _line(self) -> bytes:
        """The next line, or b"" at the end; of an endless one, a part."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            return await self._reader.read(MAX_HEADER)
        except asyncio.IncompleteReadError:
            return b""

    async def _skip(self, length: int) -> None:
        while length:
            part = await self._reader.read(min(length, 1 << 20))
            if not part:
                raise ConnectionResetError
            length -= len(part)
