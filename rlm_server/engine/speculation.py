"""Speculation: what is done before it is sure to be needed; a wrong guess costs, and is undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from rlm_server.config import Config
from rlm_server.engine.ledger import Ledger
from rlm_server.protocol import AskOptions
from rlm_server.sandbox import Batching

SPARE = 8
"""One part in so many of the sub-calls that are left may be made ahead of others."""


@dataclass(frozen=True)
class Speculation:
    """What of it is wanted in a run."""

    cells: bool = True
    """Whether a cell begins before its reply has ended."""
    loops: bool = True
    """Whether the sub-calls of a loop are made ahead of its turns."""
    limited: bool = False
    """Whether money is limited beyond the run."""

    @classmethod
    def of(cls, config: Config, options: AskOptions) -> Speculation:
        """What the configuration says, unless the question says yes or no to all of it."""
        wanted, asked, costs = config.speculation, options.speculate, config.costs
        approved = msgspec.structs.asdict(options).get("approve", False)
        return cls(
            cells=(wanted.cells if asked is None else asked) and not approved,
            loops=wanted.loops if asked is None else asked,
            limited=costs.monthly_limit is not None or bool(costs.project_limits),
        )

    def early(self, ledger: Ledger) -> bool:
        """Whether a cell may begin early: not where the reply has money set aside that it needs."""
        return self.cells and not ledger.bounded and not self.limited

    def batching(
        self, ledger: Ledger, tell: Callable[[str], None], most: int | None = None
    ) -> Batching | None:
        """How loops may make their sub-calls ahead; ``tell`` tells a person. None: not at all.

        ``most`` is what else bounds the calls of a reply.
        """
        if not self.loops:
            return None
        left = ledger.limits.subcalls - ledger.subcalls
        left = max(0, left if most is None else min(left, most))
        spare = 0 if ledger.bounded or self.limited else left // SPARE
        return Batching(lambda line: tell(_told(line)), spare)


def _told(line: int) -> str:
    return f"The sub-calls of the loop in line {line} don't depend on each other: made as a batch."
