"""How many calls a server gets at once: as configured, or found out while calls go on."""

from __future__ import annotations

import math
from typing import NamedTuple

GAIN = 1.3
"""Answers a second that twice as many calls at once have to bring, as a multiple of before; halfway
between a server that answers them all beside each other and one that only queues the rest."""

SETTLED = 60.0
"""Seconds after which it is tried again whether more calls at once bring more."""


class Range(NamedTuple):
    """Calls at once, at first and at most."""

    first: int
    most: int


WIDE = Range(32, 128)
"""Of services, and of servers that are made for many calls at once."""

MODEST = Range(8, 32)
"""Of servers that mostly serve one person on one machine."""


class Slots:
    """The number of calls that one server gets at once. Times are in seconds.

    Where the number is not configured, it is doubled for as long as that brings more answers a
    second, until the server answers with 429 for the first time. A 429 halves it; afterwards
    every round of answers brings one more.
    """

    def __init__(self, configured: int | None, default: Range) -> None:
        """Begin with what is configured, which is then the most; else with ``default``."""
        self.first, self.most = Range(configured, configured) if configured else default
        self.limit = float(self.first)
        """Calls at once; a part of a slot is one that is growing."""
        self._seeking = self.first < self.most
        self._begin_round(-math.inf)
        self._rate = 0.0
        """Answers a second with half as many calls at once; 0 where that is not known."""
        self._settled_until = -math.inf
        self._reduced_at = -math.inf

    @property
    def whole(self) -> int:
        """Calls at once, as a whole number."""
        return max(1, int(self.limit))

    def answered(self, seconds: float | None, now: float, in_flight: int) -> None:
        """A call was answered, by a server that had so many in flight.

        ``seconds`` is what it took, or None where that is no measure for others.
        """
        if not self._seeking:
            # A whole slot more for as many answers as there are slots: one more for each round.
            self.limit = min(self.most, self.limit + 1 / self.limit)
        elif seconds is not None and in_flight >= self.whole and now >= self._settled_until:
            self._measure(seconds, now)

    def refused(self, started: float, now: float) -> None:
        """A call that began at ``started`` was answered with 429."""
        self._seeking = False
        # Calls that were on their way already tell nothing of what the lower number does.
        if started >= self._reduced_at:
            self.limit = max(1.0, self.limit / 2)
            self._reduced_at = now

    def _measure(self, seconds: float, now: float) -> None:
        """Count a call of a round, in which there are as many calls as the server gets at once."""
        if now - seconds < self._round_began:
            return  # it began with fewer beside it
        self._calls += 1
        self._seconds += seconds
        if self._calls < self.whole:
            return
        rate = self.limit * self._calls / self._seconds if self._seconds else math.inf
        if rate < self._rate * GAIN:
            self.limit = max(float(self.first), self.limit / 2)
            self._rate, self._settled_until = 0.0, now + SETTLED
        elif self.limit < self.most:
            self.limit, self._rate = min(self.most, self.limit * 2), rate
        else:
            self._rate, self._settled_until = 0.0, now + SETTLED
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._round_began, self._calls, self._seconds = now, 0, 0.0
