"""A namespace as a person sees it: its variables, their values, and code of one's own in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm_server.engine.emitter import Emitter
from rlm_server.engine.ledger import Ledger
from rlm_server.engine.loop import Loop
from rlm_server.engine.steering import Steering
from rlm_server.errors import BusyError, SandboxError
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    CellDone,
    CellStarted,
    ExecResult,
    InspectResult,
    Output,
    Variable,
    VariablesResult,
)
from rlm_server.sandbox import CellResult, Looked, Repl
from rlm_server.text import clip

MOST_VARIABLES = 1000

TOLD = 1000
"""Characters of the user's code, and of what it printed, that the model is told."""


class Namespace:
    """That of one loop. Nothing here waits for a cell to end: there is a BusyError then."""

    def __init__(self, loop: Loop, emitter: Emitter, steering: Steering, ledger: Ledger) -> None:
        self._loop = loop
        self._emitter = emitter
        self._steering = steering
        self._ledger = ledger

    async def variables(self) -> VariablesResult:
        """List them. Raises BusyError, SandboxError."""
        looked = await self._look(None, length=MOST_VARIABLES)
        return VariablesResult(
            variables=[
                Variable(name=v.name, type=v.type, length=v.length, bytes=v.bytes, preview=v.text)
                for v in looked.variables
            ],
            count=looked.count,
            memory=looked.memory,
            memory_limit=looked.memory_limit,
        )

    async def inspect(self, name: str, start: int, length: int) -> InspectResult:
        """Show a page of a variable's text. Raises BusyError, SandboxError."""
        [seen] = (await self._look(name, start=start, length=length)).variables
        return InspectResult(
            name=name,
            type=seen.type,
            text=seen.text[:length],
            start=start,
            characters=seen.characters,
        )

    async def listed(self) -> str:
        """The variables in lines, as the model is told of them."""
        try:
            variables = (await self.variables()).variables
        except (BusyError, SandboxError):
            return "SHOW_VARS() lists those that are still there."
        lines = [
            f"{v.name}: {v.type}{'' if v.length is None else f', {v.length:,} long'}"
            for v in variables
        ]
        return "\n".join(lines) or "There are none."

    async def execute(self, code: str) -> ExecResult:
        """Run code of the user's own; the model is told of it. Raises BusyError, SandboxError."""
        # To its end, also where nobody waits for it any more: a REPL left in mid-cell is lost.
        task = asyncio.create_task(self._execute(code))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._loop.interrupt()
            await asyncio.gather(task, return_exceptions=True)
            raise

    async def _execute(self, code: str) -> ExecResult:
        async with self._use() as repl:
            node = self._steering.users_node(self._loop.node)
            self._emitter.emit(CellStarted, node, cell=1, code=code, by_user=True)
            self._loop.users_cell = node
            try:
                with self._steering.clock.hold():
                    result = await self._run(repl, node, code)
            finally:
                self._loop.users_cell = None
            self._tell(node, code, result)
        return ExecResult(
            node=node,
            status=result.status,
            error=result.error,
            output=result.output,
            output_characters=result.output_characters,
            seconds=result.seconds,
        )

    async def _run(self, repl: Repl, node: str, code: str) -> CellResult:
        return await repl.run(
            code,
            timeout=self._ledger.limits.cell_seconds,
            on_output=lambda stream, text: self._emitter.stream(
                Output, node, text, cell=1, stream=stream
            ),
            show=MAX_EVENT_TEXT,
        )

    def _tell(self, node: str, code: str, result: CellResult) -> None:
        self._emitter.emit(
            CellDone,
            node,
            cell=1,
            status=result.status,
            error=result.error,
            seconds=result.seconds,
            output_characters=result.output_characters,
            kept=result.kept,
        )
        lost = "" if result.kept else " All variables of earlier cells are lost."
        self._steering.tell(
            self._loop.node,
            "The person who asked has run code of their own in your REPL:\n"
            f"```repl\n{clip(code, TOLD).rstrip()}\n```\n"
            f"It printed:\n{clip(result.output, TOLD) or '(nothing)'}{lost}",
        )

    async def _look(self, name: str | None, *, start: int = 0, length: int = 0) -> Looked:
        async with self._use() as repl:
            return await repl.look(name, start=start, length=length)

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[Repl]:
        if self._loop.busy:
            raise BusyError(
                "A piece of code is running in this REPL.",
                cure="Wait until it has ended, or stop it (rlm/cancel with its iteration's node).",
            )
        async with self._loop.floor:
            assert self._loop.repl is not None
            yield self._loop.repl
