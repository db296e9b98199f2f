"""Removing runs, which only happens on request: by age, by size, or one by one."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

from rlm_server.errors import LogError
from rlm_server.protocol import RunsParams, RunSummary
from rlm_server.runs.index import EVERY, Index
from rlm_server.runs.log import in_use, remove
from rlm_server.runs.place import logs
from rlm_server.runs.summary import kept_texts
from rlm_server.runs.texts import Texts, owner


class Choice(NamedTuple):
    """What a removal by age and size would do."""

    chosen: list[RunSummary]
    needed: list[RunSummary]
    """Those that match and stay, because a fork that stays shares their beginning."""


class Retention:
    """Chooses and removes runs of one state directory. Methods block."""

    def __init__(self, index: Index, texts: Texts) -> None:
        self._index = index
        self._texts = texts

    def choose(self, *, older_than: float | None, larger_than: int | None) -> Choice:
        """Find the runs that meet all that is given: seconds since the start, bytes of the log.

        Live ones are never among them.
        """
        every = self._index.find(RunsParams(limit=EVERY), ()).runs
        now = time.time()
        matching = [
            run
            for run in every
            if run.status != "running"
            and (older_than is None or now - run.started > older_than)
            and (larger_than is None or run.bytes > larger_than)
        ]
        names = {run.run_id for run in matching}
        parents = {run.run_id: run.parent_run_id for run in every}
        needed: set[str] = set()
        for run in every:
            parent = parents[run.run_id] if run.run_id not in names else None
            while parent is not None and parent not in needed:
                needed.add(parent)
                parent = parents.get(parent)
        return Choice(
            [run for run in matching if run.run_id not in needed],
            [run for run in matching if run.run_id in needed],
        )

    def check(self, path: Path) -> None:
        """Raise LogError where a server is writing a run, or a fork needs it."""
        if in_use(path):
            raise LogError(f"The run {path.stem} is going on.", cure="Cancel it first.")
        if forks := self._index.forks(path.stem):
            raise LogError(
                f"The run {path.stem} is the beginning of {', '.join(forks[:5])}.",
                cure="Remove those first.",
            )

    def remove(self, path: Path) -> int:
        """Remove one run; give the bytes freed. Raises what ``check`` does."""
        self.check(path)
        freed = remove(path)
        return freed + self.sweep()

    def remove_all(self, chosen: list[RunSummary]) -> int:
        """Remove runs that ``choose`` has found; give the bytes freed."""
        freed = 0
        for run in chosen:
            with contextlib.suppress(LogError):  # it is written again, or gone
                freed += remove(Path(run.log))
        return freed + self.sweep()

    def sweep(self) -> int:
        """Remove the texts that came with questions and that no run needs any more."""
        paths = list(logs(self._index.directory))
        wanted = {name for path in paths for name in kept_texts(path)}
        return self._texts.remove_all_but(wanted, {owner(path.stem) for path in paths})
