"""A model server that says what a script tells it to: OpenAI's chat-completions over real sockets.

In tests::

    async with ScriptedProvider([Reply("first"), Reply(status=500), "third"]) as provider:
        ...provider.url...            # base URL, with /v1
        provider.requests[0].body     # what was asked
        await provider.requests[0].closed.wait()

As a program it prints its port on the first line and serves until it is killed::

    python tests/scripted_provider.py --rlm
    python tests/scripted_provider.py --script FILE.json [--delay SECONDS] [--chunk CHARACTERS]

The script is a JSON list of rules, tried in order::

    {"match": "regex on the last user message", "role": "root" | "sub", "times": 1,
     "reply": "text", "reasoning": "text", "status": 429, "headers": {"retry-after": "1"},
     "body": "raw text", "contentType": "text/html", "delay": 0.5, "silent": true,
     "disconnectAfter": 2}

All keys are optional; a request that no rule matches gets what ``--rlm`` would say. Requests for
vectors of texts, as OpenAI's or Ollama's clients make them, get those of ``ngram_embedder``. Only
the standard library is used, so that it runs under any Python.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

ROOT = re.compile(r"Question: .*?\n\nThe context holds ", re.DOTALL)
"""How the conversation of a run's root model begins."""


@dataclass
class Reply:
    """One scripted answer to one request."""

    text: str = ""
    reasoning: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is, in place of the JSON or SSE that would be made of the text."""
    content_type: str | None = None
    usage: dict[str, Any] | None = None
    """Replaces the usage that is counted at 4 characters a token; {} leaves it out."""
    choices: bool = True
    """False: valid JSON without any choice in it."""
    finish_reason: str = "stop"
    chunk: int = 12
    """Characters in one streamed piece."""
    wait: asyncio.Event | None = None
    """Nothing is sent before this event is set."""
    hold_after: int | None = None
    """Streamed pieces after which ``wait`` is waited for, instead of before the first one."""
    delay: float = 0.0
    """Seconds before the answer; for the program, tests use ``wait``."""
    disconnect_after: int | None = None
    """Streamed pieces after which the connection is cut."""
    silent: bool = False
    """Accept the request and never answer."""


@dataclass
class Request:
    """What a client asked, and what became of its connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client's connection is gone before the answer was complete, or after it."""
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the whole answer has been written."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, oldest first."""
        return self.body.get("messages", []) if isinstance(self.body, dict) else []

    @property
    def question(self) -> str:
        """The last user message."""
        users = [m["content"] for m in self.messages if m.get("role") == "user"]
        return str(users[-1]) if users else ""

    @property
    def role(self) -> str:
        """``root`` where the conversation is a run's, else ``sub``."""
        users = [str(m["content"]) for m in self.messages if m.get("role") == "user"]
        return "root" if users and ROOT.match(users[0]) else "sub"


Script = Callable[[Request], "Reply | str"] | Sequence["Reply | str"]


class ScriptedProvider:
    """The server; an asynchronous context manager."""

    def __init__(
        self, script: Script, *, other_paths: dict[str, Any] | None = None, port: int = 0
    ) -> None:
        """Serve ``script`` on POST, and ``other_paths`` on GET: by path, what is sent as JSON,
        text that is sent as it is, or a status. ``port`` is for one that comes back.
        """
        self.script = script
        self.other_paths = other_paths or {}
        self.requests: list[Request] = []
        self.looks: Counter[str] = Counter()
        """GET requests, by their paths."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.port = port
        self._arrivals = asyncio.Condition()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Base URL as an OpenAI client wants it."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> ScriptedProvider:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        # One that is being accepted while the server closes would be left open: first no new ones.
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(5):
            await asyncio.sleep(0)
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def arrived(self, count: int) -> None:
        """Wait until ``count`` requests have come in."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self.requests) >= count)

    async def looked(self, path: str, count: int = 1) -> None:
        """Wait until ``path`` has been asked for ``count`` times."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: self.looks[path] >= count)

    def reply_to(self, request: Request) -> Reply:
        """What the script says to ``request``."""
        number = len(self.requests)
        self.requests.append(request)
        self._spawn(self._announce())
        if callable(self.script):
            reply = self.script(request)
        elif number < len(self.script):
            reply = self.script[number]
        else:
            reply = Reply(status=500, body=b'{"error": {"message": "the script has ended"}}')
        return Reply(reply) if isinstance(reply, str) else reply

    async def _announce(self) -> None:
        async with self._arrivals:
            self._arrivals.notify_all()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, kept alive."""

    transport: asyncio.Transport

    def __init__(self, provider: ScriptedProvider) -> None:
        self.provider = provider
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.seen: list[Request] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.provider._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.provider._connections.discard(self)
        for request in self.seen:
            request.closed.set()
        if self.task:
            self.task.cancel()

    def abort(self) -> None:
        """Cut the connection without a good-bye."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.task is None or self.task.done():
            self._next()

    def _next(self) -> None:
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, v in (x.split(":", 1) for x in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        raw, self.buffer = rest[:length], rest[length:]
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw
        request = Request(method, path, headers, body)
        self.seen.append(request)
        self.task = self.provider._spawn(self._serve(request))

    async def _serve(self, request: Request) -> None:
        provider = self.provider
        if request.method == "GET":
            content = provider.other_paths.get(request.path, 404)
            status = content if isinstance(content, int) else 200
            text = content if isinstance(content, str) else json.dumps(content)
            self._whole(status, text.encode(), "application/json", {})
            provider.looks[request.path] += 1
            provider._spawn(provider._announce())
        else:
            reply = provider.reply_to(request)
            provider.in_flight += 1
            provider.most_in_flight = max(provider.most_in_flight, provider.in_flight)
            try:
                await self._answer(request, reply)
            finally:
                provider.in_flight -= 1
        request.sent.set()
        if self.buffer:
            asyncio.get_running_loop().call_soon(self._next)

    async def _answer(self, request: Request, reply: Reply) -> None:
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.wait and reply.hold_after is None:
            await reply.wait.wait()
        if reply.silent:
            await asyncio.Event().wait()
        streamed = isinstance(request.body, dict) and request.body.get("stream")
        if reply.body is not None or reply.status != 200:
            body = reply.body
            if body is None:
                body = json.dumps(
                    {"error": {"message": reply.text or "scripted", "code": reply.status}}
                ).encode()
            self._whole(reply.status, body, reply.content_type or "application/json", reply.headers)
        elif streamed:
            await self._stream(request, reply)
        else:
            content = json.dumps(_completion(request, reply)).encode()
            if reply.disconnect_after is not None:
                self.transport.write(_head(200, reply, len(content)) + content[:20])
                self.transport.close()
                return
            self._whole(200, content, reply.content_type or "application/json", reply.headers)

    def _whole(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.transport.write(
            _head(status, Reply(headers=headers, content_type=kind), len(body)) + body
        )

    async def _stream(self, request: Request, reply: Reply) -> None:
        streamed = Reply(
            headers=reply.headers, content_type=reply.content_type or "text/event-stream"
        )
        self.transport.write(_head(200, streamed, None))
        for number, event in enumerate(_events(request, reply)):
            if number == reply.hold_after and reply.wait:
                await reply.wait.wait()
            if number == reply.disconnect_after:
                self.transport.close()
                return
            data = b"data: " + event + b"\n\n"
            self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
            await asyncio.sleep(0)
        self.transport.write(b"0\r\n\r\n")


def _head(status: int, reply: Reply, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [
        f"HTTP/1.1 {status} {_phrase(status)}",
        f"content-type: {reply.content_type or 'application/json'}",
        framing,
        *(f"{name}: {value}" for name, value in reply.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Scripted"


def _usage(request: Request, reply: Reply) -> dict[str, Any]:
    if reply.usage is not None:
        return reply.usage
    prompt = sum(len(str(m.get("content", ""))) for m in request.messages) // 4
    completion = max(1, (len(reply.text) + len(reply.reasoning)) // 4)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _envelope(request: Request, kind: str) -> dict[str, Any]:
    model = request.body.get("model", "scripted") if isinstance(request.body, dict) else "scripted"
    return {"id": "chatcmpl-scripted", "object": kind, "created": 1700000000, "model": model}


def _completion(request: Request, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    answer = _envelope(request, "chat.completion")
    answer["choices"] = [choice] if reply.choices else []
    if usage := _usage(request, reply):
        answer["usage"] = usage
    return answer


def _events(request: Request, reply: Reply) -> list[bytes]:
    """The data of each server-sent event: role, pieces, end, usage, ``[DONE]``."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    for name, text in (("reasoning_content", reply.reasoning), ("content", reply.text)):
        deltas += [
            ({name: text[at : at + reply.chunk]}, None) for at in range(0, len(text), reply.chunk)
        ]
    deltas.append(({}, reply.finish_reason))
    envelope = _envelope(request, "chat.completion.chunk")
    events = []
    if reply.choices:
        for delta, finish in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            events.append(json.dumps({**envelope, "choices": [choice]}).encode())
    wanted = (request.body.get("stream_options") or {}).get("include_usage")
    if wanted and (usage := _usage(request, reply)):
        events.append(json.dumps({**envelope, "choices": [], "usage": usage}).encode())
    events.append(b"[DONE]")
    return events


# ----------------------------------------------------------------------------------- the program

_LOOK = """I look at what there is first.

```repl
documents = context.documents
print(len(documents), "documents,", len(context), "characters")
for document in documents[:5]:
    print(document.path, len(document))
```
"""

_ASK = """Now I ask about the first documents, all at once.

```repl
chosen = documents[:3]
prompts = ["What is this about?\\n\\n" + document[:2000] for document in chosen]
replies = llm_query_batched(prompts)
for document, reply in zip(chosen, replies):
    print(document.path, "->", reply)
```
"""

_ANSWER = """That is enough to answer.

```repl
first = documents[0]
answer["content"] = f"It begins at {first.path}:{first.first_line}. " + str(replies[0])
answer["ready"] = True
```
"""


def rlm_script(request: Request) -> Reply:
    """A root that looks, asks and answers; a sub that counts what it was shown."""
    if request.role == "sub":
        return Reply(f"A text of {len(request.question)} characters.")
    turn = sum(m.get("role") == "assistant" for m in request.messages)
    return Reply((_LOOK, _ASK, _ANSWER)[min(turn, 2)])


class RuleScript:
    """A script made of JSON rules; see the module's docstring."""

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        """Take the rules in the order in which they are to be tried."""
        self.rules = [dict(rule) for rule in rules]

    def __call__(self, request: Request) -> Reply:
        """Answer by the first rule that fits, else as ``rlm_script`` does; give vectors too."""
        if request.path.endswith(("/embeddings", "/api/embed")):
            from ngram_embedder import embeddings

            return embeddings(request)
        for rule in self.rules:
            if self._fits(rule, request):
                if "times" in rule:
                    rule["times"] -= 1
                return self._reply(rule)
        return rlm_script(request)

    @staticmethod
    def _fits(rule: dict[str, Any], request: Request) -> bool:
        return (
            rule.get("times", 1) > 0
            and rule.get("role", request.role) == request.role
            and re.search(rule.get("match", ""), request.question, re.DOTALL) is not None
        )

    @staticmethod
    def _reply(rule: dict[str, Any]) -> Reply:
        body = rule.get("body")
        return Reply(
            text=rule.get("reply", ""),
            reasoning=rule.get("reasoning", ""),
            status=rule.get("status", 200),
            headers=rule.get("headers", {}),
            body=None if body is None else body.encode(),
            content_type=rule.get("contentType"),
            delay=rule.get("delay", 0.0),
            silent=rule.get("silent", False),
            disconnect_after=rule.get("disconnectAfter"),
        )


async def _serve(script: Callable[[Request], Reply], delay: float, chunk: int) -> None:
    def timed(request: Request) -> Reply:
        reply = script(request)
        reply.delay = reply.delay or delay
        reply.chunk = chunk
        return reply

    async with ScriptedProvider(timed) as provider:
        print(provider.port, flush=True)
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program until killed."""
    parser = argparse.ArgumentParser(description="A model server that follows a script.")
    parser.add_argument("--script", type=Path, help="JSON file with a list of rules")
    parser.add_argument("--rlm", action="store_true", help="the built-in root and sub model")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--chunk", type=int, default=12, help="characters in a streamed piece")
    options = parser.parse_args(arguments)
    if options.script is None and not options.rlm:
        parser.error("give --script FILE.json or --rlm")
    rules = json.loads(options.script.read_text()) if options.script else []
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(RuleScript(rules), options.delay, options.chunk))
    return 0


if __name__ == "__main__":
    sys.exit(main())
