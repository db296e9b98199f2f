"""What a loop is expected to ask, found out with bounded patience and without leaving a trace.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter, thread_time
from typing import Any

from .documents import foreseeing

_PATIENCE = 0.2
"""Seconds of work that foreseeing may take beyond the time that answers were waited for."""

_clock, _work = perf_counter, thread_time  # a cell may replace those of the module


class Patience:
    """Bounds the work that is done ahead by the time that it may save."""

    def __init__(self) -> None:
        self._left = _PATIENCE
        self._since = 0.0

    def __enter__(self) -> None:
        self._since = _work()

    def __exit__(self, *exc: object) -> None:
        self._left -= _work() - self._since

    def over(self) -> bool:
        """Whether the work that is being done has taken too long."""
        return _work() - self._since > self._left

    def waited(self, seconds: float) -> None:
        """Note that an answer was waited for, in which time nothing else could be done."""
        self._left += seconds


def foreseen_calls(calls: Iterator[dict[str, Any]], patience: Patience) -> Iterator[dict[str, Any]]:
    """Yield the calls, each found out when it is asked for."""
    while True:
        with patience, foreseeing():
            call = next(calls, None)
        if call is None:
            return
        yield call


def clock() -> float:
    """Seconds since whenever."""
    return _clock()
