"""The variables that cells have made: listed, measured, forgotten.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import gc
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

from . import memory

MEASURABLE = (str, bytes, list, tuple, dict, set, frozenset)


class Shown(str):
    """Text that shows itself as it is when it is a cell's value."""

    def __repr__(self) -> str:
        return str(self)


class Variables:
    """A namespace, and what it was born with."""

    def __init__(self, namespace: dict[str, Any], offered: dict[str, Any]) -> None:
        self._namespace = namespace
        self._offered = offered

    def own(self) -> dict[str, Any]:
        """Return the variables of the cells: no modules, nothing that was offered and is as was."""
        return {
            name: value
            for name, value in self._namespace.items()
            if not name.startswith("_")
            and not isinstance(value, ModuleType)
            and (name not in self._offered or value is not self._offered[name] or name == "answer")
        }

    def show(self) -> Shown:
        """Return a list of the variables that the cells have made, with type and length."""
        lines = []
        for name, value in self.own().items():
            length = f", {len(value):,} long" if isinstance(value, MEASURABLE) else ""
            lines.append(f"{name}: {type(value).__name__}{length}")
        return Shown("\n".join(lines) or "No variables yet.")

    def memory_status(self) -> Shown:
        """Say how much memory is used of what is allowed, and by which variables."""
        return Shown(memory.report({**self.own(), **self._results()}))

    def forget(self, *names: str) -> Shown:
        """Delete variables, by names or patterns such as ``_result_*``; what was offered returns.

        Raises NameError, before anything is deleted, for a name that there is not.
        """
        chosen: dict[str, None] = {}
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"forget takes the names of variables, not {type(name).__name__}")
            there = {**self.own(), **self._results(), **dict.fromkeys(self._offered)}
            matching = [one for one in there if fnmatchcase(one, name)]
            if not matching and name not in self._namespace:
                raise NameError(f"forget: there is no variable {name!r}")
            chosen.update(dict.fromkeys(matching or [name]))
        for name in chosen:
            self._namespace.pop(name, None)
            if name in self._offered:
                self._namespace[name] = self._offered[name]
        gc.collect()
        used, _ = memory.used_and_limit()
        return Shown(f"Forgot {', '.join(chosen) or 'nothing'}; {memory.readable(used)} used now.")

    def _results(self) -> dict[str, Any]:
        """The kept outputs, which take memory though no cell has named them."""
        return {n: v for n, v in self._namespace.items() if n.startswith("_result_")}
