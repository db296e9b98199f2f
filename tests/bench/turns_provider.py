"""A scripted model server that measures its client: python turns_provider.py STYLE SECONDS CELL...

Serves OpenAI's chat-completions on loopback, streamed or not. The n-th request of a root model is
answered, without latency, with the n-th CELL in the form that STYLE (``fence`` or ``dspy``) wants;
the last one sets the answer. A request whose last message begins with ``SUBCALL`` is a sub-call,
and is answered after SECONDS. ``GET /told`` gives what was measured, and begins anew: ``gaps``,
milliseconds from a reply to the next root request, which is all that an engine adds;
``characters``, of all prompts of the root; ``subcalls``, how many there were.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

SUBCALL = "SUBCALL"
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
FORMS = {
    "fence": "I look at it.\n```repl\n{}\n```\n",
    "dspy": "[[ ## reasoning ## ]]\nI look at it.\n\n[[ ## code ## ]]\n```python\n{}\n```\n\n"
    "[[ ## completed ## ]]\n",
}


class Provider:
    """Counts root requests and the gaps between them."""

    def __init__(self, form: str, seconds: float, cells: list[str]) -> None:
        self.form = form
        self.seconds = seconds
        self.cells = cells
        self.begin()

    def begin(self) -> None:
        self.gaps: list[float] = []
        self.turns = self.characters = self.subcalls = 0
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
                if head.startswith(b"GET /told"):
                    told = [self.gaps, self.characters, self.subcalls]
                    names = ("gaps", "characters", "subcalls")
                    self.begin()
                    writer.write(_response(json.dumps(dict(zip(names, told, strict=True)))))
                elif head.startswith(b"GET"):  # asked how it is, and what it serves
                    writer.write(_response("{}"))
                else:
                    await self.reply(json.loads(body), arrived, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def reply(
        self, request: dict[str, Any], arrived: float, writer: asyncio.StreamWriter
    ) -> None:
        contents = [_text(message["content"]) for message in request["messages"]]
        if contents[-1].lstrip().startswith(SUBCALL):
            self.subcalls += 1
            await asyncio.sleep(self.seconds)
            writer.write(_completion("Yes.", stream=False))
            return
        if self.turns:
            self.gaps.append((arrived - self.replied) * 1000)
        self.characters += sum(map(len, contents))
        cell = self.cells[min(self.turns, len(self.cells) - 1)]
        self.turns += 1
        writer.write(_completion(self.form.format(cell), stream=bool(request.get("stream"))))
        await writer.drain()
        self.replied = time.perf_counter()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [])


def _completion(text: str, *, stream: bool) -> bytes:
    base = {"id": "x", "created": 1, "model": "timing"}
    if not stream:
        choice = {"index": 0, "finish_reason": "stop",
                  "message": {"role": "assistant", "content": text}}  # fmt: skip
        full = {**base, "object": "chat.completion", "choices": [choice], "usage": USAGE}
        return _response(json.dumps(full))
    chunks = [
        {**base, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]},
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**base, "choices": [], "usage": USAGE},
    ]
    events = [json.dumps({**chunk, "object": "chat.completion.chunk"}) for chunk in chunks]
    body = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    return _response(body, "text/event-stream")


def _response(text: str, content_type: str = "application/json") -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main() -> None:
    provider = Provider(FORMS[sys.argv[1]], float(sys.argv[2]), sys.argv[3:])
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, limit=1 << 26, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
