"""Which objects are changed where one is: those that it holds, under whatever names they go too.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from .known import ATOMS, TEXTS

_MOST = 50_000  # objects that are looked at for the sake of one loop
_UNCHANGED = (*ATOMS, *TEXTS, type, ModuleType, BuiltinFunctionType, range, slice)


class Reach:
    """Marks objects, and all that they hold, as changed."""

    def __init__(self, changed: dict[int, Any]) -> None:
        self._changed = changed
        self._left = _MOST

    def mark(self, root: Any) -> bool:
        """Mark an object; False where it holds too much to be gone through."""
        waiting = [root]
        while waiting:
            each = waiting.pop()
            if isinstance(each, _UNCHANGED) or id(each) in self._changed:
                continue
            self._left -= 1
            if self._left < 0:
                return False
            self._changed[id(each)] = each
            waiting += _held(each)
        return True


def _held(value: Any) -> list[Any]:
    """What an object holds; of a function that is not what it can name."""
    if isinstance(value, FunctionType):
        return [value.__closure__, value.__defaults__, value.__kwdefaults__]
    return gc.get_referents(value)
