"""A real MCP server, made with the official SDK, for the tests of the client.

As a program it serves over its pipes, or with ``--http PORT`` at ``http://127.0.0.1:PORT/mcp``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("for tests", log_level="ERROR")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Further lines.
    """
    return a + b


@server.tool()
def weather(city: str, unit: Literal["C", "F"] = "C") -> dict[str, str | int]:
    """Tell the weather."""
    return {"city": city, "degrees": 20 if unit == "C" else 68}


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def environment() -> list[str]:
    """Name the variables of its environment."""
    return sorted(os.environ)


@server.tool(name="read-file")
def read_file(path: str) -> str:
    """Read a file: its name is no identifier."""
    return Path(path).read_text()


@server.tool()
async def wait(started: str, cancelled: str) -> str:
    """Wait for ever, and note in files that it began, and that it was cancelled."""
    Path(started).touch()
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        Path(cancelled).touch()
        raise
    return ""


@server.tool()
def die() -> None:
    """End the process."""
    print("out of order", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--http"]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
