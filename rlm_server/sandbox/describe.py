"""Variables described for the person at the screen: listed with a preview, or shown by pages.

Runs inside the sandbox: standard library only. What a variable says of itself may be hostile, so
this runs in a fork that is thrown away, each variable has little time, and the server has a
time-out over it all.
"""

from __future__ import annotations

import pprint
import reprlib
import signal
from collections.abc import Callable
from typing import Any

from . import memory
from .channel import clean
from .variables import MEASURABLE, Variables

_SECONDS = 0.25
"""For one variable of a list."""
_PREVIEW = 200
_PRETTY = 200_000
"""Bytes up to which a value is laid out in lines; more takes too long."""

_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_PLAIN = (*_SCALARS, list, tuple, dict, set, frozenset)


class _Brief(reprlib.Repr):
    """Short texts of large values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, _PREVIEW, _PREVIEW
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 12


class _Wary(_Brief):
    """The same, without calling anything that the code in here has defined."""

    def repr1(self, x: Any, level: int) -> str:
        odd = type(x) not in _PLAIN
        # Keys are compared with each other, and members of sets.
        if not odd and type(x) in (dict, set, frozenset):
            odd = any(type(key) not in _SCALARS for key in x)
        return f"<{_type(x)}>" if odd else super().repr1(x, level)


class _TooLong(BaseException):
    """A variable takes too long to describe itself."""


def look(variables: Variables, namespace: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """Answer an order to describe variables; whatever goes wrong is an error in the answer."""
    used, limit = memory.used_and_limit()
    said: dict[str, Any] = {
        "type": "looked",
        "token": order["token"],
        "variables": [],
        "count": 0,
        "memory": used,
        "memory_limit": limit,
        "error": "",
    }
    try:
        if order["name"] is None:
            own = variables.own()
            said["count"] = len(own)
            chosen = list(own.items())[: order["length"]]
            said["variables"] = [_listed(name, value, order["trusting"]) for name, value in chosen]
        elif order["name"] in namespace:
            said["count"] = 1
            said["variables"] = [_shown(namespace[order["name"]], order)]
        else:
            said["error"] = f"there is no variable {order['name']!r}"
    except BaseException as error:
        said["variables"] = []
        said["error"] = f"it can't be shown: {_type(error)}"
    return said


def _listed(name: str, value: Any, trusting: bool) -> dict[str, Any]:
    size: int = _within(lambda: _size(value, trusting), 0)
    length: int | None = _within(lambda: _length(value), None)
    text: str = _within(lambda: _preview(value, trusting), f"<{_type(value)}>")
    return {
        "name": clean(name),
        "type": _type(value),
        "length": length,
        "bytes": size,
        "text": clean(text),
    }


def _shown(value: Any, order: dict[str, Any]) -> dict[str, Any]:
    start, stop = order["start"], order["start"] + order["length"]
    if issubclass(type(value), str):
        characters, page = str.__len__(value), str.__getitem__(value, slice(start, stop))
    else:
        text = _laid_out(value) if order["trusting"] else _Wary().repr(value)
        characters, page = len(text), text[start:stop]
    return {
        "name": order["name"],
        "type": _type(value),
        "length": _length(value),
        "bytes": _size(value, order["trusting"]),
        "text": clean(page),
        "characters": characters,
    }


def _laid_out(value: Any) -> str:
    if memory.size_of(value) <= _PRETTY:
        return pprint.pformat(value, width=100, sort_dicts=False)
    return str(repr(value))


def _preview(value: Any, trusting: bool) -> str:
    if issubclass(type(value), str):
        text = repr(str.__getitem__(value, slice(0, _PREVIEW)))
    elif not trusting:
        text = _Wary().repr(value)
    elif type(value) in _PLAIN:
        text = _Brief().repr(value)
    else:
        text = repr(value)
    return text[:_PREVIEW]


def _length(value: Any) -> int | None:
    for kind in MEASURABLE:
        if issubclass(type(value), kind):
            return int(kind.__len__(value))
    return None


def _size(value: Any, trusting: bool) -> int:
    return memory.size_of(value) if trusting or type(value) in _SCALARS else 0


def _type(value: Any) -> str:
    return clean(str(type.__dict__["__name__"].__get__(type(value))))[:_PREVIEW]


def _within(describe: Callable[[], Any], otherwise: Any) -> Any:
    """Describe a variable within its time; something else where it can't be described."""

    def give_up(signum: int, frame: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            return describe()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return otherwise
    finally:
        signal.signal(signal.SIGALRM, before)
