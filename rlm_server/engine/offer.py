"""The tools of one run: found at its beginning, told to the model, and called for its code."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_server.engine.emitter import Emitter
from rlm_server.errors import ToolError
from rlm_server.protocol import Notice
from rlm_server.sandbox import ToolStub
from rlm_server.tools import Toolbox, ToolInfo

INTRODUCTION = (
    "Beside the functions of the REPL you may call these tools of the user's, with what JSON has; "
    "they return what JSON has, and raise ToolError:"
)


class Offer:
    """What a run offers of the toolbox; nothing where there is none."""

    def __init__(self, toolbox: Toolbox | None, emitter: Emitter) -> None:
        """Nothing is looked for yet."""
        self._toolbox = toolbox
        self._emitter = emitter
        self._infos: Sequence[ToolInfo] = ()

    async def find(self) -> None:
        """Find the tools; one that is missing is told, and the run goes on without it."""
        if self._toolbox is None or self._toolbox.empty:
            return
        for problem in await self._toolbox.find():
            self._emitter.emit(Notice, level="warning", text=f"A tool can't be offered. {problem}")
        self._infos = self._toolbox.infos

    @property
    def stubs(self) -> list[ToolStub]:
        """The functions as the sandbox binds them."""
        return [ToolStub(each.name, each.signature, each.doc) for each in self._infos]

    @property
    def told(self) -> str:
        """What the root model is told of them; empty where there are none."""
        lines = [
            f"- {each.name}{each.signature}" + (f": {each.doc}" if each.doc else "")
            for each in self._infos
        ]
        return "\n".join([INTRODUCTION, *lines]) if lines else ""

    async def call(self, name: str, arguments: str) -> str:
        """The result of a call, as JSON. Raises ToolError."""
        if self._toolbox is None:
            raise ToolError("No tools are offered.")
        return await self._toolbox.call(name, arguments)
