"""Which values and methods are known: they give a value and change nothing, whatever they hold.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from .bm25 import Passage
from .chunks import Pieces
from .cite import Citation, NotFound
from .documents import Document, Documents, Piece
from .found import Found, FoundList
from .mapped_text import Context
from .subcalls import SubcallAnswer, SubcallFailure
from .variables import Shown

LARGE = 4_000_000
"""Characters of a text, or elements of a list, that are made ahead."""

_MANY = 200_000  # elements that are gone through ahead
_PLAIN = (range, slice, Documents, Pieces)
_DEEP = 20_000  # elements that are looked at to see whether all are plain

ATOMS: frozenset[type] = frozenset({str, int, float, bool, type(None), bytes})
TEXTS: frozenset[type] = frozenset(
    {Context, Document, Piece, Found, Passage, Citation, NotFound, Shown}
    | {SubcallAnswer, SubcallFailure}
)
LISTS = frozenset({list, tuple, set, frozenset, range, FoundList, Documents, Pieces})
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
KNOWN = ATOMS | TEXTS | LISTS | VIEWS | {dict, slice}

_FUNCTIONS = """len str int float bool repr abs round min max sum sorted list tuple dict set range
    ord chr any all"""
FUNCTIONS = {name: getattr(builtins, name) for name in _FUNCTIONS.split()}
"""Builtins that are called ahead."""

ITERATING = frozenset(("min", "max", "sum", "sorted", "list", "tuple", "dict", "set", "any", "all"))
"""Those that go through their first argument."""

_OF_TEXT = """capitalize casefold count endswith find index isalnum isalpha isascii isdecimal
    isdigit islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix
    removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith
    strip swapcase title upper format"""
OF_TEXT = frozenset(_OF_TEXT.split())
OF_LISTS = frozenset(("index", "count", "get", "keys", "values", "items", "paths"))
READING = OF_TEXT | OF_LISTS | {"line_at"}
"""Methods of known values that are called ahead."""


class UnknownError(Exception):
    """The value can't be told ahead. Whatever else is raised, the code itself will raise."""


UNKNOWN: Any = object()
"""Stands for the value of a name that can't be told ahead."""


def elements(value: Any) -> Sequence[Any]:
    """The elements of a known value, in the order of a loop. Raises UnknownError.

    Documents and pieces are made as they are gone through, and so not kept.
    """
    if type(value) not in LISTS | VIEWS | TEXTS | {dict, str} or len(value) > _MANY:
        raise UnknownError
    return value if type(value) in (Documents, Pieces) else list(value)


def short(value: Any) -> Any:
    """Return the value, unless it is too large to be made ahead; raises UnknownError."""
    if isinstance(value, str | bytes | list | tuple) and len(value) > LARGE:
        raise UnknownError
    return value


def bounded(value: Any, times: Any) -> None:
    """Raise UnknownError where this value, so many times, is too large to be made ahead."""
    repeated = isinstance(value, str | bytes | list | tuple) and isinstance(times, int)
    if repeated and len(value) * times > LARGE:
        raise UnknownError


def plain(value: Any, changed: dict[int, Any]) -> Any:
    """Return the value, if showing or comparing it runs no code of a cell's.

    Raises UnknownError where it may, or where it holds anything that is ``changed``.
    """
    waiting, seen = [value], 0
    while waiting:
        each = waiting.pop()
        seen += 1
        if type(each) in ATOMS or type(each) in TEXTS or type(each) in _PLAIN:
            continue
        if seen > _DEEP or id(each) in changed:
            raise UnknownError
        if type(each) is dict:
            waiting += [*each.keys(), *each.values()]
        elif type(each) in LISTS | VIEWS and len(each) <= _DEEP:
            waiting += list(each)
        else:
            raise UnknownError
    return value


_MADE = {
    kind: {name: what for base in reversed(kind.__mro__) for name, what in vars(base).items()}
    for kind in (*TEXTS, Documents, Pieces, FoundList)
}


def as_made(kind: type, name: str) -> bool:
    """Whether a class of ours has this name as it had when it was made, or still has not."""
    made = _MADE.get(kind)
    if made is None:
        return True
    now = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
    return now is made.get(name)
