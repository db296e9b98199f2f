"""What would differ each time the same code runs: the wall clock and chance, made to repeat.

A run can be resumed by running its cells anew, so they must find what they found before. Each cell
is told when it began; from there on the clock goes by what the cell does, not by what it waits for.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import datetime as _datetime
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

TICK = 1_000_000
"""Nanoseconds by which the clock goes on whenever it is looked at: no loop waits for ever."""

real_sleep = time.sleep
_real_urandom = os.urandom


class Fixed:
    """The clock and the source of chance of one namespace."""

    def __init__(self) -> None:
        self.now: int | None = None
        """Nanoseconds since the epoch; None: the real time, outside of cells."""
        self._chance: random.Random | None = None

    def begin(self, seconds: float, seed: int) -> None:
        """Begin a cell at a time since the epoch; the first one's seed is the namespace's."""
        self.now = int(seconds * 1e6) * 1000
        if self._chance is None:
            self._chance = random.Random(seed)  # noqa: S311 - it is to repeat
            random.seed(seed)

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        if self.now is None:
            return _real_time_ns()
        self.now += TICK
        return self.now

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.time_ns() / 1_000_000_000

    def sleep(self, seconds: float, /) -> None:
        """Wait as ``time.sleep`` does; the clock goes on by as much."""
        real_sleep(seconds)
        if self.now is not None:
            self.now += int(seconds * 1e9)

    def urandom(self, size: int, /) -> bytes:
        """Bytes that nobody outside can foresee, but the same ones each time."""
        return _real_urandom(size) if self._chance is None else self._chance.randbytes(size)


_real_time_ns = time.time_ns
fixed = Fixed()


def install() -> None:
    """Put the clock and the chance in the place of the real ones, once for all namespaces.

    Before other modules have taken what this replaces. Durations can still be measured: the
    monotonic clocks stay as they are.
    """
    if time.time_ns == fixed.time_ns:
        return
    time.time, time.time_ns = fixed.time, fixed.time_ns
    time.sleep = fixed.sleep  # type: ignore[assignment]
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _of_seconds(getattr(time, name)))
    time.asctime = _of_moment(time.asctime, 0)
    time.strftime = _of_moment(time.strftime, 1)
    os.urandom = fixed.urandom
    random._urandom = fixed.urandom  # type: ignore[attr-defined]
    _datetime.date = _Date  # type: ignore[misc]
    _datetime.datetime = _DateTime  # type: ignore[misc]


def _of_seconds(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of seconds since the epoch, by default the present ones."""

    def wrapper(seconds: float | None = None, /) -> Any:
        return function(fixed.time() if seconds is None else seconds)

    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    return wrapper


def _of_moment(function: Callable[..., Any], before: int) -> Callable[..., Any]:
    """A function of a moment as ``localtime`` gives it, after so many other arguments."""

    def wrapper(*arguments: Any) -> Any:
        if len(arguments) == before:
            arguments = (*arguments, time.localtime())
        return function(*arguments)

    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    return wrapper


if TYPE_CHECKING:
    from datetime import date as _RealDate  # noqa: N812
    from datetime import datetime as _RealDateTime  # noqa: N812
else:
    _RealDate, _RealDateTime = _datetime.date, _datetime.datetime


class _Like(type):
    """What C code makes of the real class is an instance of its stand-in too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        real = cls.__mro__[1] if cls in (_Date, _DateTime) else None
        return isinstance(instance, real) if real else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        real = cls.__mro__[1] if cls in (_Date, _DateTime) else None
        return issubclass(subclass, real) if real else type.__subclasscheck__(cls, subclass)


class _Date(_RealDate, metaclass=_Like):
    __doc__ = _RealDate.__doc__

    @classmethod
    def today(cls) -> Any:
        return cls.fromtimestamp(fixed.time())

    def __repr__(self) -> str:
        return _named(self, _Date, super().__repr__())


class _DateTime(_RealDateTime, metaclass=_Like):
    __doc__ = _RealDateTime.__doc__

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.fromtimestamp(fixed.time(), tz)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return cls.fromtimestamp(fixed.time(), _datetime.UTC).replace(tzinfo=None)

    def date(self) -> Any:
        return _Date(self.year, self.month, self.day)

    def __repr__(self) -> str:
        return _named(self, _DateTime, super().__repr__())


def _named(value: Any, kind: type, shown: str) -> str:
    """What ``repr`` says of the real classes, whose names hold that of their module."""
    return f"datetime.{shown}" if type(value) is kind else shown


for _class, _name in ((_Date, "date"), (_DateTime, "datetime")):
    _class.__name__ = _class.__qualname__ = _name
    _class.__module__ = "datetime"
