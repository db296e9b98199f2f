"""Model servers of given speeds and slots on loopback, in one process: SECONDS:SLOTS ...

Answers OpenAI's chat-completions without streaming. Calls beyond a server's slots wait for one,
as they would in front of a GPU. Prints a port for each server. ``GET /count`` says how many
calls it has answered, and begins anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
BODY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [CHOICE],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }
).encode()


def _answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


ANSWER = _answer(BODY)


class Server:
    """A server with so many slots, each of which takes so long for a call."""

    def __init__(self, seconds: float, slots: int) -> None:
        self.seconds = seconds
        self.free = slots
        self.waiting: deque[Connection] = deque()
        self.count = 0

    def ask(self, connection: Connection) -> None:
        if not self.free:
            self.waiting.append(connection)
        elif self.seconds:
            self.free -= 1
            asyncio.get_running_loop().call_later(self.seconds, self.done, connection)
        else:
            self.count += 1
            connection.transport.write(ANSWER)

    def done(self, connection: Connection) -> None:
        self.count += 1
        connection.transport.write(ANSWER)
        self.free += 1
        if self.waiting:
            self.ask(self.waiting.popleft())


class Connection(asyncio.Protocol):
    """One client's connection; one request at a time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        if head.startswith(b"GET"):
            self.transport.write(_answer(str(self.server.count).encode()))
            self.server.count = 0
        else:
            self.server.ask(self)


async def main() -> None:
    loop, listeners = asyncio.get_running_loop(), []
    for argument in sys.argv[1:]:
        seconds, slots = argument.split(":")
        server = Server(float(seconds), int(slots))

        def accept(server: Server = server) -> Connection:
            return Connection(server)

        listeners.append(await loop.create_server(accept, "127.0.0.1", 0, backlog=2048))
    print(*(listener.sockets[0].getsockname()[1] for listener in listeners), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
