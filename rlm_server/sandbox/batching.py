"""Turns the sub-calls of a loop into one batch, where the loop's turns don't depend on each other.

Nothing is rearranged: the loop runs as it is written, and what its calls will ask is worked out
beside it, as far as that can be proved, so that they are made ahead.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import itertools
from collections.abc import Mapping
from typing import Any

from .asking import Asking
from .asks import Loop
from .chunks import Pieces
from .documents import Documents
from .foreseen import Foreseen
from .known import UnknownError, elements
from .loops import AHEAD, LOCALS, find_loops
from .turns import Turns

_SAMPLES: tuple[Any, ...] = ([], (), "", {}, {}.values(), {}.items(), set(), range(0))
_ITERATORS = frozenset(
    {enumerate, zip, reversed, map, range}
    | {type(iter(kind)) for kind in _SAMPLES}
    | {type(reversed([])), type(iter(range(1 << 70)))}
)
_MOST = 100_000


class Batching:
    """Knows the loops of all cells, since functions keep theirs."""

    def __init__(self, asking: Asking, namespace: dict[str, Any]) -> None:
        self._asking = asking
        self._namespace = namespace
        self._loops: list[Loop] = []
        self.spare = 0
        """Turns whose calls may be made ahead though they may be in vain, far from any limit."""
        setattr(builtins, AHEAD, self.told)
        setattr(builtins, LOCALS, locals)

    def prepare(self, tree: ast.Module) -> None:
        """Have the loops of a cell tell what they go through."""
        self._loops += find_loops(tree, len(self._loops))

    def told(self, number: int, iterable: Any, names: Mapping[str, Any]) -> Any:
        """Expect the calls of a loop that begins, and return what it goes through."""
        with contextlib.suppress(Exception):  # whatever it is, the loop can do without
            self._expect(self._loops[number], iterable, names)
        return iterable

    def _expect(self, loop: Loop, iterable: Any, names: Mapping[str, Any]) -> None:
        foreseen = Foreseen(names, self._namespace)
        items = _items(iterable)
        if not 1 < len(items) <= _MOST:
            return
        turns = Turns(
            loop,
            items,
            foreseen,
            walked=iterable,
            make_call=self._asking.plain_call,
            asks=lambda callee: callee == self._asking.llm_query,
        )
        calls, first = turns.calls(), []
        for call in calls:  # the whole first turn, as long as nothing of it has happened
            first.append(call)
            if turns.number > 1:
                certain = turns.certain and not turns.asks_more
                if not certain and len(items) > self.spare:
                    return
                self._asking.ahead.expect(
                    itertools.chain(first, calls), loop.lineno, lambda: turns.certain
                )
                return


def _items(iterable: Any) -> list[Any]:
    """What an iterable gives, without using it up. Raises UnknownError."""
    if type(iterable) in _ITERATORS:
        iterable = _again(iterable, 0)
        return list(itertools.islice(iterable, _MOST + 1))
    return elements(iterable)


def _cuts_out(function: Any) -> bool:
    """Whether it is how documents and pieces are gone through."""
    return isinstance(getattr(function, "__self__", None), (Documents, Pieces))


def _again(iterator: Any, depth: int) -> Any:
    """An iterator that gives the same, by way of what it would be pickled as."""
    if type(iterator) not in _ITERATORS or depth > 5:
        raise UnknownError
    if type(iterator) is range:
        return iterator
    function, args, *state = iterator.__reduce__()
    if function is map and _cuts_out(args[0]):
        return map(args[0], *(_again(each, depth + 1) for each in args[1:]))
    if function not in (iter, enumerate, zip, reversed):
        raise UnknownError
    if function in (enumerate, zip):
        args = tuple(_again(a, depth + 1) if not isinstance(a, int) else a for a in args)
    made = function(*args)
    if state and state[0] is not None and hasattr(made, "__setstate__"):
        made.__setstate__(state[0])
    return made
