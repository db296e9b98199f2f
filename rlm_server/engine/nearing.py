"""Soft limits: what of a run's limits is nearly used up, told once before the hard stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rlm_server.engine.ledger import Ledger

NEAR = 0.8
"""The part of a limit from which it is near."""


class Near(NamedTuple):
    """A limit that is near."""

    text: str
    """A sentence that says so."""
    first: bool
    """Whether no other loop of the run has told it."""


class Nearing:
    """For one loop: each limit is told once, and again only if it was raised meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._told: set[str] = set()

    def due(self) -> list[Near]:
        """The limits that are near now and that this loop has not been told of."""
        near = dict(self._near())
        known = self._ledger.warned
        due = [Near(near[kind], kind not in known) for kind in near if kind not in self._told]
        self._told = set(near)
        known.intersection_update(near)
        known.update(near)
        return due

    def _near(self) -> Iterator[tuple[str, str]]:
        """Kind of limit and sentence, for each that is near."""
        ledger, limits = self._ledger, self._ledger.limits
        if ledger.seconds >= NEAR * limits.seconds:
            yield "seconds", f"{ledger.seconds:,.0f} of {limits.seconds:,.0f} seconds are over."
        if ledger.subcalls >= NEAR * limits.subcalls > 0:
            made, limit = ledger.subcalls, limits.subcalls
            yield "subcalls", f"{made:,} of {limit:,} sub-calls are made."
        used, reply = ledger.tokens, ledger.last_reply
        if limits.tokens is not None and _is_near(used, reply.tokens, limits.tokens):
            yield "tokens", f"{used:,} of {limits.tokens:,} tokens are used."
        spent = ledger.spent.cost
        if limits.cost is not None and _is_near(spent or 0.0, reply.cost, limits.cost):
            yield "cost", f"${spent or 0.0:,.4f} of ${limits.cost:,.2f} are spent."


def _is_near(used: float, reply: float, limit: float) -> bool:
    """Whether a limit is near, or leaves no room for two more replies at their worst."""
    return used >= NEAR * limit or used + 2 * reply > limit
