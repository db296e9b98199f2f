"""What each run has cost, by month, project and model; and the month's limit, kept beforehand."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlm_server.config import CostsConfig, state_dir
from rlm_server.errors import BudgetError
from rlm_server.models.account import Account
from rlm_server.models.calls import Completion
from rlm_server.models.database import Database
from rlm_server.protocol import CostRow, CostsResult
from rlm_server.text import dollars

FILE = "costs.db"
CURE = "What calls cost is not noted meanwhile. Move the file away to begin a new one."
SCHEMA = """
CREATE TABLE cost (
    run TEXT, model TEXT, month TEXT NOT NULL, project TEXT NOT NULL,
    calls INTEGER NOT NULL, kept INTEGER NOT NULL, prompt INTEGER NOT NULL,
    completion INTEGER NOT NULL, cached INTEGER NOT NULL, dollars REAL NOT NULL,
    unknown INTEGER NOT NULL, PRIMARY KEY (run, model, month)
) WITHOUT ROWID;
CREATE INDEX cost_by_month ON cost (month, project, dollars, unknown)
"""
_ADD = """INSERT INTO cost VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, model, month) DO UPDATE SET calls = calls + 1, kept = kept + excluded.kept,
prompt = prompt + excluded.prompt, completion = completion + excluded.completion,
cached = cached + excluded.cached, dollars = dollars + excluded.dollars,
unknown = unknown + excluded.unknown"""
_COLUMNS = (
    *("month", "project", "model", "runs", "calls", "cached_calls", "prompt_tokens"),
    *("completion_tokens", "cached_tokens", "known_cost", "unknown_calls"),
)
_ROWS = """SELECT month, project, model, count(*), sum(calls), sum(kept), sum(prompt),
sum(completion), sum(cached), sum(dollars), sum(unknown) FROM cost
WHERE month IN (SELECT DISTINCT month FROM cost ORDER BY month DESC LIMIT ?)
GROUP BY month, project, model ORDER BY month DESC, sum(dollars) DESC, project, model"""

ALL = None
"""Stands for all projects together."""


def month_of(seconds: float) -> str:
    """The calendar month at a time since the epoch, such as ``2026-11``, by the local clock."""
    return time.strftime("%Y-%m", time.localtime(seconds))


class Costs:
    """The ledger of one user's money, shared by all their servers.

    What other servers have in flight is not known, so together they can pass a limit by what
    their running calls cost.
    """

    def __init__(self, config: CostsConfig, *, clock: Callable[[], float] = time.time) -> None:
        """The file is opened when it is first used."""
        self._config = config
        self._clock = clock
        path = state_dir(make=False) / FILE
        self._database = Database(path, SCHEMA, version=1, cure=CURE)
        self._unwritten: dict[tuple[str, str], float] = defaultdict(float)
        self._reserved: dict[str, float] = defaultdict(float)

    @contextmanager
    def room(self, account: Account, worst: float | None) -> Iterator[None]:
        """Set aside what a call costs at worst, in US dollars, while it lasts.

        Raises BudgetError where a limit leaves no room for it. None stands for an unknown price,
        with which no limit can be kept.
        """
        project = account.project or ""
        for limit, whose in self._limits(project):
            self._check(limit, whose, worst)
        self._reserved[project] += worst or 0.0
        try:
            yield
        finally:
            self._reserved[project] -= worst or 0.0

    def record(self, account: Account, completion: Completion) -> None:
        """Note what a call has used."""
        usage = completion.usage
        month, project = month_of(self._clock()), account.project or ""
        dollars = usage.cost or 0.0
        row = (
            account.run_id,
            completion.model,
            month,
            project,
            int(completion.cached),
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            dollars,
            int(usage.cost is None),
        )
        with self._database.publishing:
            self._unwritten[month, project] += dollars

        def written() -> None:
            self._unwritten[month, project] -= dollars

        self._database.write([(_ADD, row)], after=written)

    async def report(self, months: int) -> CostsResult:
        """The last so many months in which there were calls."""
        await asyncio.to_thread(self.flush)
        rows = [
            CostRow(**dict(zip(_COLUMNS, row, strict=True)), cost=None)
            for row in self._database.read(_ROWS, (months,))
        ]
        for row in rows:
            row.project = row.project or None
            row.cost = None if row.unknown_calls else row.known_cost
        month = month_of(self._clock())
        return CostsResult(
            month=month,
            spent=self._spent(month, ALL) or 0.0,
            unknown_calls=sum(row.unknown_calls for row in rows if row.month == month),
            limit=self._config.monthly_limit,
            project_limits=self._config.project_limits,
            rows=rows,
            problem=self._database.broken,
        )

    def flush(self) -> None:
        """Write what waits. Blocks: call it in a thread."""
        self._database.flush()

    def close(self) -> None:
        """Write what waits, and close. Blocks: call it in a thread."""
        self._database.close()

    def _limits(self, project: str) -> Iterator[tuple[float, str | None]]:
        if self._config.monthly_limit is not None:
            yield self._config.monthly_limit, ALL
        if project in self._config.project_limits:
            yield self._config.project_limits[project], project

    def _check(self, limit: float, project: str | None, worst: float | None) -> None:
        setting = "monthly-limit" if project is ALL else f"project-limits for {project!r}"
        named = f"The limit of {dollars(limit)} a month" + (f" for {project}" if project else "")
        if worst == 0.0:
            return
        if worst is None:
            raise BudgetError(
                f"{named} can't be kept with a model whose price is unknown.",
                cure="Set input-price and output-price for the model, or remove "
                f"{setting} from [costs].",
            )
        spent = self._spent(month_of(self._clock()), project)
        if spent is None:
            broken = self._database.broken
            raise BudgetError(
                f"{named} can't be kept: {broken or f'{self._database.path} is locked'}.",
                cure="Move the file away." if broken else "Try again when no program has it open.",
            )
        reserved = sum(self._reserved.values()) if project is ALL else self._reserved[project]
        if spent + reserved + worst > limit:
            raise BudgetError(
                f"{named} leaves no room for a call of up to ${worst:.4f}: ${spent:.4f} is spent"
                + (f" and ${reserved:.4f} set aside." if reserved else "."),
                cure=f"Raise {setting} in [costs], wait for the next month, or take a model that "
                "costs nothing.",
            )

    def _spent(self, month: str, project: str | None) -> float | None:
        """Known US dollars in a month, of one project or of all; None where it can't be told."""
        query = "SELECT total(dollars) FROM cost WHERE month = ?"
        arguments = [month]
        if project is not ALL:
            query, arguments = f"{query} AND project = ?", [month, project]
        with self._database.publishing:
            waiting = sum(
                dollars
                for (when, whose), dollars in self._unwritten.items()
                if when == month and project in (ALL, whose)
            )
            rows = self._database.look(query, arguments)
        return None if rows is None else float(rows[0][0]) + waiting
