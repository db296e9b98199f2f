"""An MCP server as a process of its own: JSON-RPC, a line for each message, over its pipes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rlm_server.errors import ToolError
from rlm_server.text import one_line
from rlm_server.tools.mcp_messages import (
    CANCELLED,
    Answer,
    answer_in,
    answer_to,
    message,
    result_of,
)

LONGEST = 16 << 20
"""Bytes of one message."""

PATIENCE = 1.0
"""Seconds that the process has to end by itself once its input is closed."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "USER", "LOGNAME", "SHELL", "TMPDIR", "TERM")
"""What it sees of the server's own environment, which may hold keys; the rest is configured."""

LAST_WORDS = 5
"""Lines of its standard error that an error quotes from."""


class StdioConnection:
    """Speaks to one process, for as long as that lives."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._reading = asyncio.create_task(self._read(), name=f"MCP server {name}")
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(
        cls, name: str, command: Sequence[str], env: Mapping[str, str]
    ) -> StdioConnection:
        """Start the process. Raises ToolError."""
        inherited = {each: os.environ[each] for each in INHERITED if each in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**inherited, **env},
                limit=LONGEST,
                start_new_session=True,  # so that all it starts can be ended with it
            )
        except (OSError, ValueError) as error:
            told = getattr(error, "strerror", None) or str(error)
            raise ToolError(
                f"{command[0]!r} of [mcp.{name}] can't be started: {told}.",
                cure="Try it in a terminal, or correct command.",
            ) from None
        return cls(name, process)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._reading.done()

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the result. Raises ToolError. When cancelled, it is told so."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(message(method, params, number))
            return result_of(await future, f"[mcp.{self._name}]")
        except asyncio.CancelledError:
            with contextlib.suppress(ToolError):
                self.notify(CANCELLED, {"requestId": number, "reason": "not wanted any more"})
            raise
        finally:
            del self._waiting[number]

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell something that is not answered. Raises ToolError."""
        self._send(message(method, params))

    async def close(self) -> None:
        """End the process, and all that it has started."""
        assert self._process.stdin
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        for task in (self._reading, self._listening):
            task.cancel()
        await asyncio.gather(self._reading, self._listening, return_exceptions=True)

    def _send(self, body: bytes) -> None:
        assert self._process.stdin
        if not self.alive:
            raise self._ended()
        self._process.stdin.write(body + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout
        try:
            while line := await self._process.stdout.readline():
                if line.strip():
                    self._take(line)
        except (ValueError, ConnectionError):
            self._said.append("a message too long, or a broken pipe")
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._ended())

    def _take(self, line: bytes) -> None:
        try:
            said = answer_in(line)
        except msgspec.MsgspecError:
            return  # something that was printed where only messages should be
        if said.method is not None:
            if said.id is not None:
                self._send(answer_to(said))
            return
        future = self._waiting.get(said.id) if isinstance(said.id, int) else None
        if future is not None and not future.done():
            future.set_result(said)

    async def _listen(self) -> None:
        """Keep the last of what it says on standard error, which must not fill its pipe."""
        assert self._process.stderr
        while data := await self._process.stderr.read(1 << 16):
            self._said.extend(data.decode("utf-8", "replace").strip().splitlines())

    def _ended(self) -> ToolError:
        last = one_line(self._said[-1], 300) if self._said else ""
        return ToolError(
            f"The server of [mcp.{self._name}] has ended" + (f": {last}" if last else "."),
            cure="Try its command in a terminal.",
        )
