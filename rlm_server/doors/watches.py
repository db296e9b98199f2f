"""The watches of one connection: at most one for a run, whatever is asked while one begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlm_server.engine.durable import Durable
from rlm_server.engine.run import Run
from rlm_server.protocol import Watched, WatchParams, WatchResult


class Watches:
    """Those that one client has asked for."""

    def __init__(
        self, durable: Durable, tell: Callable[[Watched], None], follow: Callable[[str, int], None]
    ) -> None:
        """``follow`` sends the events of a run that a watch has started, from a number on."""
        self._durable = durable
        self._tell = tell
        self._follow = follow
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._latest: dict[str, WatchParams] = {}
        """What was asked last of each run."""

    async def watch(self, params: WatchParams) -> WatchResult:
        """Begin to watch a run, or stop it. Raises UnknownRunError, NotResumableError."""
        self._latest[params.run_id] = params
        if (task := self._tasks.pop(params.run_id, None)) is not None:
            task.cancel()
        if params.stop:
            return WatchResult(watching=False, places=[])
        watch = await self._durable.watch(params, self._changed)
        if (latest := self._latest[params.run_id]) is params:
            task = asyncio.create_task(watch.run(), name=f"watch {params.run_id}")
            self._tasks[params.run_id] = task
        return WatchResult(watching=not latest.stop, places=watch.places)

    async def close(self) -> None:
        """End them all."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self, told: Watched, run: Run | None) -> None:
        self._tell(told)
        if run is not None:
            self._follow(run.run_id, 0)
