"""A small JSON-RPC client over a real server process, for end-to-end tests and benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from rlm_server.protocol import PROTOCOL_VERSION

Message = dict[str, Any]


class Client:
    """Speaks to a server over two streams; keeps every message it got."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.events: list[Message] = []
        self.messages: list[Message] = []
        self._reader = reader
        self._writer = writer
        self._replies: dict[Any, asyncio.Future[Message]] = {}
        self._news = asyncio.Event()
        self._id = 0
        self._reading = asyncio.create_task(self._read())

    def send_raw(self, body: bytes, header: bytes | None = None) -> None:
        self._writer.write((header or b"Content-Length: %d\r\n\r\n" % len(body)) + body)

    def notify(self, method: str, params: Any = None) -> None:
        self.send_raw(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def post(self, method: str, params: Any = None) -> int:
        """Send a request without waiting; return its id."""
        self._id += 1
        self._replies[self._id] = asyncio.get_running_loop().create_future()
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.send_raw(json.dumps(message).encode())
        return self._id

    async def reply(self, request: int) -> Message:
        return await asyncio.wait_for(asyncio.shield(self._replies[request]), 120)

    async def request(self, method: str, params: Any = None) -> Any:
        """Send a request; return its result. Fails on an error reply."""
        reply = await self.reply(self.post(method, params))
        assert "error" not in reply, reply
        return reply["result"]

    async def error(self, method: str, params: Any = None) -> Message:
        reply = await self.reply(self.post(method, params))
        assert "error" in reply, reply
        return reply["error"]

    async def until(self, found: Callable[[], Any], seconds: float = 120) -> Any:
        """Wait until ``found`` gives something true, looking again at each message."""
        async with asyncio.timeout(seconds):
            while not (value := found()):
                self._news.clear()
                await self._news.wait()
        return value

    async def event(self, run_id: str, kind: str, **fields: Any) -> Message:
        """Wait for an event of a run."""
        return await self.until(
            lambda: next(
                (
                    event
                    for event in self.events
                    if event["runId"] == run_id
                    and event["kind"] == kind
                    and all(event[name] == value for name, value in fields.items())
                ),
                None,
            )
        )

    def of(self, run_id: str, kind: str | None = None) -> list[Message]:
        """The events of a run that have come so far."""
        return [
            e for e in self.events if e["runId"] == run_id and (kind is None or e["kind"] == kind)
        ]

    async def ended(self) -> None:
        await self._reading

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        self._writer.close()

    async def _read(self) -> None:
        try:
            while True:
                header = await self._reader.readuntil(b"\r\n\r\n")
                length = int(header.split(b":")[1])
                message = json.loads(await self._reader.readexactly(length))
                self.messages.append(message)
                if message.get("method") == "rlm/events":
                    self.events.extend(message["params"]["events"])
                elif message.get("id") in self._replies:
                    self._replies[message["id"]].set_result(message)
                self._news.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_result({"error": {"code": None, "message": "the server has gone"}})


def server_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment in which a server touches nothing but ``home``, and finds no key."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "RLM_CONFIG": str(home / "config.toml"),
        "RLM_STATE": str(home / "state"),
        "RLM_CACHE": str(home / "cache"),
        **more,
    }


@contextlib.asynccontextmanager
async def start_server(
    home: Path, *arguments: str, **environment: str
) -> AsyncIterator[tuple[Client, asyncio.subprocess.Process]]:
    """Start ``python -m rlm_server`` on pipes; end it by closing its standard input."""
    with (home / "stderr").open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rlm_server", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
            env=server_environment(home, **environment),
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
    assert process.stdin
    assert process.stdout
    client = Client(process.stdout, process.stdin)
    try:
        yield client, process
    finally:
        await client.close()
        try:
            await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise


def initialize_params(**more: Any) -> Message:
    return {"protocolVersion": PROTOCOL_VERSION, "clientInfo": {"name": "tests"}, **more}
