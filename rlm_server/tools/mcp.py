"""A configured MCP server: connected to when it is first needed, and again when it has ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from rlm_server.config import McpConfig
from rlm_server.errors import ConfigError, ToolError
from rlm_server.text import scrub
from rlm_server.tools.mcp_http import HttpConnection
from rlm_server.tools.mcp_messages import (
    INITIALIZE,
    INITIALIZED,
    CallResult,
    ToolDefinition,
    ToolList,
)
from rlm_server.tools.mcp_stdio import StdioConnection

T = TypeVar("T")

STARTING = 30.0
"""Seconds that a server has to start and to list its tools; some are fetched first."""

MOST = 100
"""Tools of one server; each costs the root model a line of its prompt."""


class Connection(Protocol):
    """A way to speak to a server."""

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the result. Raises ToolError. When cancelled, it is told so."""

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell something that is not answered."""

    async def close(self) -> None:
        """End it."""


class McpServer:
    """One of ``[mcp.NAME]``."""

    def __init__(self, name: str, config: McpConfig) -> None:
        """Raises ConfigError where it can't be told how it is reached."""
        if bool(config.command) == bool(config.url):
            raise ConfigError(
                f"[mcp.{name}] needs either a command or a url.",
                cure='For instance command = ["uvx", "mcp-server-time"].',
            )
        if config.url and not config.url.startswith(("http://", "https://")):
            raise ConfigError(f"[mcp.{name}] has url = {config.url!r}.", cure="Write http://...")
        self.name = name
        self.config = config
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def tools(self) -> list[ToolDefinition]:
        """Its tools, those that are offered. Raises ToolError."""
        found: list[ToolDefinition] = []
        cursor: dict[str, str] = {}
        async with self._in_time(STARTING, "to list its tools"):
            while True:
                part = self._read(await self._ask("tools/list", cursor), ToolList)
                found += part.tools
                if not part.nextCursor or len(found) > MOST:
                    break
                cursor = {"cursor": part.nextCursor}
        wanted = self.config.tools
        if wanted is not None:
            missing = set(wanted) - {each.name for each in found}
            if missing:
                raise ToolError(
                    f"The server of [mcp.{self.name}] has no tool {', '.join(sorted(missing))}.",
                    cure=f"It has: {', '.join(each.name for each in found)[:1000]}.",
                )
            found = [each for each in found if each.name in wanted]
        if len(found) > MOST:
            raise ToolError(
                f"The server of [mcp.{self.name}] has more than {MOST} tools.",
                cure="Name those that you need: tools = [...].",
            )
        return found

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> CallResult:
        """Call a tool. Raises ToolError."""
        async with self._in_time(self.config.timeout, f"to call {tool}"):
            result = await self._ask("tools/call", {"name": tool, "arguments": arguments})
        return self._read(result, CallResult)

    async def close(self) -> None:
        """End the connection, and the process where it is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return await (await self._connected()).request(method, params)

    async def _connected(self) -> Connection:
        """The connection, made anew where there is none or it has ended."""
        async with self._connecting:
            if self._connection is not None and self._connection.alive:
                return self._connection
            await self.close()
            connection = await self._open()
            try:
                await connection.request("initialize", INITIALIZE)
                connection.notify(INITIALIZED, {})
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
            return connection

    async def _open(self) -> Connection:
        config = self.config
        if config.url:
            return await HttpConnection.open(self.name, config.url, config.headers)
        return await StdioConnection.open(self.name, config.command, config.env)

    def scrub(self, told: str) -> str:
        """Take out what the configuration gives the server as a secret, which it may repeat."""
        url = urlsplit(self.config.url or "")
        given = [*self.config.headers.values(), *self.config.env.values(), url.query, url.path]
        parts = [part for text in given for part in re.split(r"[\s&=]+", text)]
        return scrub(told, {*given, *parts, url.password or ""})

    @asynccontextmanager
    async def _in_time(self, seconds: float, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except ToolError as error:
            raise ToolError(self.scrub(error.message), cure=error.cure) from None
        except TimeoutError:
            raise ToolError(
                f"The server of [mcp.{self.name}] took more than {seconds:g} s {what}.",
                cure=f"Ask it for less, or raise timeout in [mcp.{self.name}].",
            ) from None

    def _read(self, result: dict[str, Any], kind: type[T]) -> T:
        try:
            return msgspec.convert(result, kind)
        except msgspec.ValidationError as error:
            raise ToolError(
                f"The server of [mcp.{self.name}] sent what is no message of MCP: {error}."
            ) from None
