"""Watched runs: when what one is about changes, its program is run again, within a budget."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_server.errors import RlmError
from rlm_server.models import add
from rlm_server.protocol import LimitOverrides, RerunParams, Usage, Watched
from rlm_server.text import dollars

if TYPE_CHECKING:
    from rlm_server.engine.durable import Durable
    from rlm_server.engine.run import Run

logger = logging.getLogger(__name__)

QUIET_MILLISECONDS = 500
"""Changes that follow each other within this time are one."""

OnChange = Callable[[Watched, "Run | None"], None]


class Watch:
    """Watches one run, and those that it starts in its place."""

    def __init__(
        self,
        durable: Durable,
        run_id: str,
        places: Sequence[str],
        budget: float | None,
        on_change: OnChange,
        *,
        limit: float | None = None,
    ) -> None:
        """``budget``: US dollars for all that the watching starts; None: no limit.

        ``limit``: US dollars for each run.
        """
        self.places = list(places)
        self._durable = durable
        self._run_id = run_id
        self._latest = run_id
        self._budget = budget
        self._limit = limit
        self._used = Usage()
        self._on_change = on_change

    async def run(self) -> None:
        """Watch until cancelled, until the budget is used up, or until a place is gone."""
        try:
            await self._watch()
        except OSError as error:
            places = ", ".join(self.places)
            self._tell(None, f"{places} can't be watched any longer: {str(error).rstrip('.')}.")

    async def _watch(self) -> None:
        async for _ in changes(self.places):
            try:
                if not await self._durable.has_changed(self._latest):
                    continue  # what has changed is not a part of the text
                run = await self._durable.rerun(self._params())
            except RlmError as error:
                self._tell(None, str(error))
                continue
            self._latest = run.run_id
            self._tell(run, "")
            await run.over()
            self._used = add(self._used, run.ended.usage if run.ended else Usage())
            if self._budget is not None and (self._left() or 0.0) <= 0.0:
                self._tell(None, f"The budget of {dollars(self._budget)} is used up.")
                return

    def _params(self) -> RerunParams:
        bounds = [each for each in (self._left(), self._limit) if each is not None]
        limits = LimitOverrides(cost=min(bounds, default=None))
        return RerunParams(run_id=self._latest, limits=limits)

    def _left(self) -> float | None:
        """What of the budget is left; of unknown cost, nothing is sure to be."""
        if self._budget is None:
            return None
        used = self._used.cost
        return max(0.0, self._budget - used) if used is not None else 0.0

    def _tell(self, run: Run | None, reason: str) -> None:
        told = Watched(
            run_id=self._run_id,
            new_run_id=run.run_id if run else None,
            log=str(run.log.path) if run else "",
            reason=reason,
        )
        self._on_change(told, run)


async def changes(places: Sequence[str]) -> AsyncIterator[None]:
    """Yield whenever something in these places has changed and it is quiet again.

    A file is looked at by way of its directory: editors replace it by another of its name.
    Raises OSError where a directory is not there, or goes.
    """
    from watchfiles import awatch

    trees = [path for path in places if Path(path).is_dir()]  # noqa: ASYNC240 - asked once
    files = {path for path in places if path not in trees}
    roots = {path if path in trees else str(Path(path).parent) for path in places}

    def concerns(_: object, path: str) -> bool:
        return path in files or any(Path(path).is_relative_to(tree) for tree in trees)

    async with contextlib.aclosing(
        awatch(
            *roots,
            watch_filter=concerns,
            debounce=10 * QUIET_MILLISECONDS,
            step=QUIET_MILLISECONDS,
            recursive=bool(trees),
        )
    ) as watched:
        async for _ in watched:
            if not all(Path(root).is_dir() for root in roots):  # noqa: ASYNC240 - as above
                raise FileNotFoundError("a directory is gone")  # nor is another in its place seen
            yield
