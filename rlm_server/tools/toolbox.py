"""All tools that the configuration offers: found when they are first needed, called by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rlm_server.config import Config
from rlm_server.errors import ConfigError, RlmError, ToolError
from rlm_server.tools.bounds import decode_arguments, encode_result
from rlm_server.tools.mcp import McpServer
from rlm_server.tools.mcp_tool import McpTool
from rlm_server.tools.names import check_name
from rlm_server.tools.python_tool import PythonTool
from rlm_server.tools.tool import Tool, ToolInfo

THREADS = 16
"""Calls of blocking functions at once; others wait."""


class Toolbox:
    """What the model's code may call. Nothing that is not in the configuration."""

    def __init__(self, config: Config) -> None:
        """Nothing is imported or started yet.

        Raises ConfigError for a table that can't be right.
        """
        self._python = config.tools
        self._servers = [McpServer(name, settings) for name, settings in config.mcp.items()]
        for name in self._python:
            check_name(name, f"[tools.{name}]")
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="tool")
        self._tools: dict[str, Tool] = {}
        self._found: set[str] = set()
        self._finding = asyncio.Lock()

    @property
    def empty(self) -> bool:
        """Whether the configuration offers none."""
        return not (self._python or self._servers)

    async def find(self) -> list[str]:
        """Import functions and ask servers that are not known yet; what failed, for people.

        What fails is tried again the next time. Never raises.
        """
        async with self._finding:
            # Modules may take their time; one after the other, since two tables may name the same.
            imported = await asyncio.to_thread(lambda: [*map(self._import, self._python)])
            told = await asyncio.gather(*map(self._ask, self._servers))
        return [each for each in (*imported, *told) if each]

    @property
    def infos(self) -> Sequence[ToolInfo]:
        """What is said of each tool that was found."""
        return [tool.info for tool in self._tools.values()]

    async def call(self, name: str, arguments: str) -> str:
        """Call a tool with arguments in JSON, as strangers' code sends them; its result, as JSON.

        Raises ToolError.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError(f"No tool is called {name[:100]!r}.")
        given = decode_arguments(arguments)
        return encode_result(await tool.call(given.args, given.kwargs), name)

    async def close(self) -> None:
        """End the servers that were started. A function that still blocks is not waited for."""
        await asyncio.gather(*(server.close() for server in self._servers))
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _import(self, name: str) -> str:
        """Take a function in; what failed, for people."""
        if name in self._found:
            return ""
        try:
            tool = PythonTool(name, self._python[name], self._executor)
        except ConfigError as error:
            return str(error)
        self._take([tool], name)
        return ""

    async def _ask(self, server: McpServer) -> str:
        """Take a server's tools in; what failed, for people."""
        where = f"mcp.{server.name}"
        if where in self._found:
            return ""
        try:
            tools = [McpTool(server, each) for each in await server.tools()]
            taken = {tool.info.name for tool in tools} & self._tools.keys()
            if taken or len({tool.info.name for tool in tools}) < len(tools):
                told = ", ".join(sorted(taken)) or "several of its own"
                raise ConfigError(
                    f"[{where}] has tools called like others: {told}.",
                    cure="Give the table another name, or name those that you need: tools = [...].",
                )
        except RlmError as error:
            return str(error)
        self._take(tools, where)
        return ""

    def _take(self, tools: Sequence[Tool], where: str) -> None:
        self._found.add(where)
        self._tools.update({tool.info.name: tool for tool in tools})
