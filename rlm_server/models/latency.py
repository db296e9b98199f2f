"""How long a server's calls take: quick to see a slow-down, slow to forget it."""

from __future__ import annotations

import math
from collections import deque

FADE = 10.0
"""Seconds in which a peak loses two thirds of its weight, as better times come in."""

FORGET = 60.0
"""Seconds in which an estimate loses two thirds of itself while nothing comes in, so that a
server which was slow once is tried again."""

KEPT = 100
"""Latest times of which the percentile is taken."""

ENOUGH = 20
"""Times that a percentile needs."""


class Latency:
    """A peak-sensitive moving average of call times, in seconds."""

    def __init__(self) -> None:
        self._value: float | None = None
        self._at = 0.0
        self._kept: deque[float] = deque(maxlen=KEPT)

    def observe(self, seconds: float, now: float) -> None:
        """Take in the time of a call that was answered."""
        self._kept.append(seconds)
        self._take(seconds, now)

    def observe_failure(self, seconds: float, now: float) -> None:
        """A failed call tells only of slowness: one that failed fast makes no server fast."""
        if seconds > (self.at(now) or math.inf):
            self._take(seconds, now)

    def at(self, now: float) -> float | None:
        """The estimate at a time; None before the first call."""
        if self._value is None:
            return None
        return self._value * math.exp((self._at - now) / FORGET)

    def p95(self) -> float | None:
        """What 95 % of the latest calls stayed below; None where there were too few."""
        if len(self._kept) < ENOUGH:
            return None
        return sorted(self._kept)[math.ceil(len(self._kept) * 0.95) - 1]

    def _take(self, seconds: float, now: float) -> None:
        current = self.at(now)
        if current is None or seconds >= current:
            self._value = seconds
        else:
            weight = math.exp((self._at - now) / FADE)
            self._value = current * weight + seconds * (1 - weight)
        self._at = now
