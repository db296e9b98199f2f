"""Turns the sub-calls of a loop into one batch, where the loop's turns don't depend on each other.

Nothing is rearranged: the loop runs as it is written, and what its calls will ask is worked out
beside it, as far as that can be told, so that they are made ahead.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import itertools
import operator
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any

from .asking import Asking
from .asks import CALL, Loop
from .chunks import Pieces
from .documents import Documents, foreseeing
from .foreseen import Foreseen
from .foresight import Patience, foreseen_calls
from .known import ATOMS, VIEWS, UnknownError, elements
from .loops import AHEAD, LOCALS, find_loops
from .turns import Turns
from .watchful import makes_objects, may_make_objects, watches_frames

_SAMPLES: tuple[Any, ...] = ([], (), "", {}, {}.values(), {}.items(), set(), range(0))
_ITERATORS = frozenset(
    {enumerate, zip, reversed, map, range}
    | {type(iter(kind)) for kind in _SAMPLES}
    | {type(reversed([])), type(iter(range(1 << 70)))}
)
_HELD_BY = ATOMS | VIEWS | {list, tuple, dict, set, frozenset, range}
_MOST = 100_000
_CUTTING = (Documents._document, Pieces.__getitem__)
"""How documents and pieces are gone through, each cut out in its turn."""
_llm_query = Asking.llm_query


class Batching:
    """Knows the loops of all cells, since functions keep theirs."""

    def __init__(self, asking: Asking, namespace: dict[str, Any]) -> None:
        self._asking = asking
        self._namespace = namespace
        self._loops: list[Loop] = []
        self._possible = True
        self.spare = 0
        """Turns whose calls may be made ahead though they may be in vain, far from any limit."""
        setattr(builtins, AHEAD, self.told)
        setattr(builtins, LOCALS, locals)

    def prepare(self, tree: ast.Module, code: str, *, batch: bool) -> None:
        """Have the loops of a cell tell what they go through, where that is wanted and safe."""
        self._possible = self._possible and not (may_make_objects(code) and makes_objects(tree))
        if batch and self._possible and CALL in code and not watches_frames(tree):
            self._loops += find_loops(tree, len(self._loops))

    def told(self, number: int, iterable: Any, names: Mapping[str, Any]) -> Any:
        """Expect the calls of a loop that begins, and return what it goes through."""
        with contextlib.suppress(Exception):  # whatever it is, the loop can do without
            if self._possible:
                self._expect(self._loops[number], iterable, names)
        return iterable

    def _expect(self, loop: Loop, iterable: Any, names: Mapping[str, Any]) -> None:
        foreseen = Foreseen(names, self._namespace)
        patience = Patience()
        with patience, foreseeing():
            items, number = _items(iterable)
        if not 1 < number <= _MOST:
            return
        turns = Turns(
            loop,
            items,
            foreseen,
            walked=iterable,
            make_call=self._asking.plain_call,
            asks=self._is_ours,
            over=patience.over,
        )
        calls, first = foreseen_calls(turns.calls(), patience), []
        for call in calls:  # the whole first turn, as long as nothing of it has happened
            first.append(call)
            if turns.number > 1:
                certain = turns.certain and not turns.asks_more
                if not certain and number > self.spare:
                    return
                told = itertools.chain(first, calls)
                self._asking.ahead.expect(told, loop.lineno, lambda: turns.certain, patience.waited)
                return

    def _is_ours(self, callee: Any) -> bool:
        """Whether it is ``llm_query`` itself."""
        return (
            type(callee) is MethodType
            and callee.__self__ is self._asking
            and callee.__func__ is _llm_query
        )


def _items(iterable: Any) -> tuple[Iterable[Any], int]:
    """What an iterable gives, without using it up, and how many. Raises UnknownError."""
    if type(iterable) in _ITERATORS:
        again = _again(iterable, 0)
        return again, _length(_again(iterable, 0))
    known = elements(iterable)
    return known, len(known)


def _again(iterator: Any, depth: int) -> Any:
    """An iterator that gives the same, by way of what it would be pickled as.

    What it goes through is copied, but for texts that are cut out on the way.
    """
    if type(iterator) not in _ITERATORS or depth > 5:
        raise UnknownError
    if type(iterator) is range:
        return iter(iterator)
    function, args, *state = iterator.__reduce__()
    if function is map:
        if type(args[0]) is not MethodType or args[0].__func__ not in _CUTTING:
            raise UnknownError
        return map(args[0], *(_again(each, depth + 1) for each in args[1:]))
    if function in (enumerate, zip):
        return function(*(_again(a, depth + 1) if type(a) is not int else a for a in args))
    if function not in (iter, reversed) or type(args[0]) not in _HELD_BY:
        raise UnknownError
    made = function(*args)
    if state and state[0] is not None and hasattr(made, "__setstate__"):
        made.__setstate__(state[0])
    return iter(list(itertools.islice(made, _MOST + 1)))


def _length(iterator: Any) -> int:
    """How many an iterator that was made again gives."""
    if type(iterator) in (enumerate, zip, map):
        _, args, *_ = iterator.__reduce__()
        parts = [a for a in args if type(a) not in (int, MethodType)]
        return min((_length(each) for each in parts), default=0)
    return operator.length_hint(iterator)
