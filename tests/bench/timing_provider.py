"""A model server without latency that times its client, from a reply to the next request.

Serves OpenAI's chat-completions on loopback, streamed or not. Of N requests the first N - 1 are
answered with a cell that prints, the last with one that sets the answer. ``GET /gaps`` gives the
measured times in milliseconds, and begins anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

CELL = 'I look at it.\n```repl\nprint(len(context), "characters")\n```\n'
LAST = 'Done.\n```repl\nanswer["content"] = str(len(context))\nanswer["ready"] = True\n```\n'
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Provider:
    """Counts requests and the gaps between them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.begin()

    def begin(self) -> None:
        self.count = 0
        self.gaps: list[float] = []
        self.replied = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = time.perf_counter()
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                body = await reader.readexactly(length)
                writer.write(self.answer(head, body, arrived))
                await writer.drain()
                self.replied = time.perf_counter()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, head: bytes, body: bytes, arrived: float) -> bytes:
        if head.startswith(b"GET"):
            gaps = json.dumps(self.gaps).encode()
            self.begin()
            return _response("application/json", gaps)
        if self.count:
            self.gaps.append((arrived - self.replied) * 1000)
        self.count += 1
        text = LAST if self.count >= self.total else CELL
        base = {"id": "x", "created": 1, "model": "timing"}
        if b'"stream":true' not in body.replace(b" ", b""):
            choice = {"index": 0, "finish_reason": "stop",
                      "message": {"role": "assistant", "content": text}}  # fmt: skip
            full = {**base, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            return _response("application/json", json.dumps(full).encode())
        chunks = [
            {**base, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]},
            {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**base, "choices": [], "usage": USAGE},
        ]
        events = [json.dumps({**chunk, "object": "chat.completion.chunk"}) for chunk in chunks]
        stream = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
        return _response("text/event-stream", stream.encode())


def _response(content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main() -> None:
    provider = Provider(int(sys.argv[1]))
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, limit=1 << 26)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
