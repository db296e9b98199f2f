"""Runs that have ended and rest: a few, for a while, within a bound of memory.

The one that was used longest ago goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass

from rlm_server.config import SandboxConfig
from rlm_server.engine.run import Run


@dataclass
class _Place:
    run: Run
    timer: asyncio.TimerHandle
    memory: int = 0


class Resting:
    """Only for the event loop's thread."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._places: dict[str, _Place] = {}  # that of the latest use is the last
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Run]:
        return iter([place.run for place in self._places.values()])

    @property
    def memory(self) -> int:
        """Bytes that the REPLs of all of them have in use, as they say."""
        return sum(place.memory for place in self._places.values())

    def add(self, run: Run) -> None:
        """Let a run rest; others may have to go for it."""
        self._places[run.run_id] = _Place(run, self._timer(run))
        self._make_room()
        self._spawn(self._settle(run))

    def get(self, run_id: str) -> Run | None:
        """A run that rests, which is used now."""
        place = self._places.pop(run_id, None)
        if place is None:
            return None
        place.timer.cancel()
        place.timer = self._timer(place.run)
        self._places[run_id] = place
        return place.run

    def take(self, run_id: str) -> Run | None:
        """Let a run rest no longer, because it goes on."""
        place = self._places.pop(run_id, None)
        if place is None:
            return None
        place.timer.cancel()
        return place.run

    async def dismiss(self, run_id: str) -> None:
        """Close a run, if it rests, whatever it does."""
        if run := self.take(run_id):
            await run.close()

    async def close(self) -> None:
        """Close them all."""
        for run in self:
            self._dismiss(run)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, run: Run) -> None:
        memory = await run.settle()
        if place := self._place(run):
            place.memory = memory
            self._make_room()

    def _make_room(self) -> None:
        while self._places and (
            len(self._places) > self._config.resting or self.memory > self._config.rest_bytes
        ):
            idle = [run for run in self if not run.busy]
            if not idle:
                return  # looked at again when the next one comes to rest
            self._dismiss(idle[0])

    def _timer(self, run: Run) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self._config.rest_seconds, self._expire, run)

    def _expire(self, run: Run) -> None:
        if run.busy:
            if self._place(run):
                self.get(run.run_id)
        else:
            self._dismiss(run)

    def _place(self, run: Run) -> _Place | None:
        """The place of this very run: one that was resumed has the same id."""
        place = self._places.get(run.run_id)
        return place if place is not None and place.run is run else None

    def _dismiss(self, run: Run) -> None:
        if self._place(run):
            self.take(run.run_id)
        self._spawn(run.close())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
