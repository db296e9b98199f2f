"""Steering: what a person does to a run while it goes on: pause it, tell it, approve its code."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Literal

from rlm_server.engine.clock import Clock
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.prompt import person_note
from rlm_server.protocol import MAX_EVENT_TEXT, ApprovalWanted, Note, Notice, Paused
from rlm_server.text import clip


@dataclass(frozen=True)
class Decision:
    """What a person decided about a cell before it ran."""

    kind: Literal["approve", "edit", "reject"]
    code: str = ""
    """What runs instead, for ``edit``."""
    reason: str = ""
    """Why not, for ``reject``."""


APPROVED = Decision("approve")


class Steering:
    """One for a whole run, its child runs included. Only for the event loop's thread."""

    def __init__(self, emitter: Emitter, clock: Clock, *, approve: bool) -> None:
        """``approve``: whether each cell waits for a person before it runs."""
        self.approving = approve
        self._emitter = emitter
        self.clock = clock
        self._going = asyncio.Event()
        self._going.set()
        self._still = contextlib.ExitStack()
        self._news: dict[str, list[str]] = {}
        self._waiting: dict[tuple[str, int], asyncio.Future[Decision]] = {}
        self._users_cells: dict[str, int] = {}

    # --------------------------------------------------------------------------------------- pause

    @property
    def paused(self) -> bool:
        """Whether nothing new is begun."""
        return not self._going.is_set()

    def pause(self, paused: bool) -> None:
        """Begin nothing new, or go on; the clock stands still meanwhile."""
        if paused == self.paused:
            return
        self._emitter.emit(Paused, paused=paused)
        if paused:
            self._going.clear()
            self._still.enter_context(self.clock.hold())
        else:
            self._still.close()
            self._going.set()

    async def gate(self, node: str) -> None:
        """Wait until the run is not paused; what a cell of the user's own does need not wait."""
        if not by_user(node):
            await self._going.wait()

    # --------------------------------------------------------------------------------------- notes

    def note(self, node: str, text: str) -> None:
        """Have the model of the run or child run ``node`` told something by its next message."""
        self._emitter.emit(Note, node, text=text)
        self.tell(node, person_note(text))

    def tell(self, node: str, text: str) -> None:
        """Have the model of ``node`` told of what was done, by its next message."""
        self._news.setdefault(node, []).append(text)

    def news(self, node: str) -> str:
        """What the model of ``node`` is to be told now; it is told once."""
        return "\n\n".join(self._news.pop(node, []))

    # ------------------------------------------------------------------------------------ approval

    async def approval(self, node: str, cell: int, code: str) -> Decision:
        """Wait for a person to decide about a cell, where one shall. The clock stands still."""
        if not self.approving:
            return APPROVED
        decision: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting[node, cell] = decision
        self._emitter.emit(ApprovalWanted, node, cell=cell, code=clip(code, MAX_EVENT_TEXT))
        try:
            with self.clock.hold():
                return await decision
        finally:
            del self._waiting[node, cell]

    def decide(self, node: str, cell: int, decision: Decision, *, rest: bool) -> bool:
        """Decide about a cell; False where it doesn't wait. ``rest``: ask about no further one."""
        waiting = self._waiting.get((node, cell))
        if waiting is None or waiting.done():
            return False
        waiting.set_result(decision)
        if rest:
            self.approving = False
            for other in self._waiting.values():
                if not other.done():
                    other.set_result(APPROVED)
        return True

    # ------------------------------------------------------------------------- the user's own code

    def users_node(self, node: str) -> str:
        """A node for the next piece of code that the user runs in the REPL of ``node``."""
        number = self._users_cells[node] = self._users_cells.get(node, 0) + 1
        return f"{node}.x{number}"

    # ----------------------------------------------------------------------------------------- end

    def finish(self) -> None:
        """The question has ended: nothing is paused any more, and what came late is told."""
        if self.paused:
            self.pause(False)
        late = [text for texts in self._news.values() for text in texts]
        if late:
            self._emitter.emit(
                Notice,
                level="info",
                text="The model had ended before it could be told of your last note or code; "
                "a follow-up question takes it along.",
            )
            self._news = {"0": late}


def by_user(node: str) -> bool:
    """Whether a node is a cell of the user's own, or below one."""
    return "x" in node
