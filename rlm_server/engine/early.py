"""The first cell of a reply, begun as soon as it is whole, while the reply goes on.

What it does is kept back until the reply has ended: then it is told as if the cell had begun just
then, and counts. Where the reply breaks off instead, the cell is undone, and only what its
sub-calls have cost is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rlm_server.engine.emitter import Emitter
from rlm_server.protocol import Notice, SubcallDone
from rlm_server.sandbox import CellResult, Sure

PATIENCE_SECONDS = 0.01
"""What a reply gets to end after its first cell; most have little after it."""

Begin = Callable[[str, Sure], Awaitable[CellResult]]


class EarlyCell:
    """At most one of a reply; one that had to be undone is not begun early again."""

    def __init__(
        self,
        emitter: Emitter,
        node: str,
        begin: Begin,
        unsure: dict[str, Sure],
        *,
        may_begin: Callable[[], bool],
    ) -> None:
        """``begin`` runs code until it is sure, or void; ``unsure`` has such cells by node."""
        self._emitter = emitter
        self._node = node
        self._begin = begin
        self._unsure = unsure
        self._may_begin = may_begin
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[CellResult] | None = None
        self._sure: Sure | None = None
        self._void = False

    def closed(self, code: str) -> None:
        """The first cell is whole; the reply goes on."""
        if self._timer is None and not self._void:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PATIENCE_SECONDS, self._start, code)

    def void(self) -> None:
        """The reply broke off: the cell was not to run."""
        self._void = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sure is not None and not self._sure.done():
            self._sure.set_result(False)

    async def abandon(self) -> None:
        """There will be no reply: return when all is undone."""
        self.void()
        if self._task is not None:
            await asyncio.wait({self._task})
            self._tell_undone()

    async def result(self) -> CellResult | None:
        """The reply is whole: the result of its first cell, or None where that is yet to run.

        Raises what running it raises.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None or self._sure is None:
            return None
        if self._void:
            await self.abandon()
            return None
        self._unsure.pop(self._node, None)
        self._emitter.release(self._node)
        self._sure.set_result(True)
        return await self._task

    def _start(self, code: str) -> None:
        if not self._may_begin():
            return
        self._sure = asyncio.get_running_loop().create_future()
        self._unsure[self._node] = self._sure
        self._emitter.hold(self._node)
        self._task = asyncio.ensure_future(self._begin(code, self._sure))

    def _tell_undone(self) -> None:
        assert self._task is not None
        if not self._task.cancelled():
            self._task.exception()  # that it was undone, or what would have ended the run
        self._unsure.pop(self._node, None)
        dropped = self._emitter.release(self._node, drop=True)
        calls = [event for event in dropped if isinstance(event, SubcallDone)]
        paid = f" Its {len(calls):,} sub-calls may have to be paid all the same." if calls else ""
        self._emitter.emit(
            Notice,
            self._node,
            level="warning",
            text=f"The code that had begun before the reply broke off was undone.{paid}",
        )
