"""What a tool is to the rest: what is said of it, and a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class ToolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a tool: to the model, to the sandbox, and to people."""

    name: str
    """Name of the function in the REPL."""
    signature: str
    """Such as ``(city: str, days: int = 3) -> list[str]``."""
    doc: str
    """One line; empty where nothing is known."""
    source: str
    """The table of the configuration that it comes from, such as ``[tools.weather]``."""


class Tool(Protocol):
    """A function that the model's code may call."""

    @property
    def info(self) -> ToolInfo:
        """What is said of it."""

    async def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it with arguments as they came out of JSON; the result can go into JSON.

        Raises ToolError for arguments that don't fit, and for whatever goes wrong in it; when
        cancelled, it is stopped as far as that can be done.
        """
