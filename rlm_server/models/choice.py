"""Which of several servers with a free slot gets a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlm_server.models.affinity import at_home
from rlm_server.models.server import Server

MANY = 8
"""Servers beyond which two are drawn and the better taken, in place of the best of all: the best
of all would get every call until its load is known."""

UNKNOWN = 1.0
"""Seconds that a call is taken to last before anything is known."""


def best(
    room: Sequence[Server],
    now: float,
    *,
    prefix: bytes | None = None,
    random: Callable[[], float],
) -> Server:
    """The server that has the prompt's beginning, else the one with the least load x latency."""
    if len(room) == 1:
        return room[0]
    known = [server.latency.at(now) for server in room]
    # One that is not known yet is taken to be as fast as the fastest, so that it is tried.
    guess = min((latency for latency in known if latency is not None), default=UNKNOWN)
    latencies = [guess if latency is None else latency for latency in known]
    if prefix is not None and (home := at_home(room, prefix, latencies)):
        return home
    drawn = range(len(room)) if len(room) <= MANY else _two(len(room), random)
    return room[min(drawn, key=lambda number: room[number].load(latencies[number]))]


def _two(count: int, random: Callable[[], float]) -> Sequence[int]:
    first = int(random() * count) % count
    second = int(random() * (count - 1)) % (count - 1)
    return first, second + (second >= first)
