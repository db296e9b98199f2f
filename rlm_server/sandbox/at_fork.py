"""What the standard library does around each fork, as far as it is needed here.

Imported before anything else. Each cell begins with a fork, whose child copies every page that it
writes to: what ``threading``, ``logging`` and ``concurrent.futures`` set up anew, and seeding
``random`` anew, would take as long as the fork itself. Locks need nothing where there is one
thread, and the state of ``random`` is to cross the fork, so that cells find the same numbers when
they run again.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Iterable
from typing import Any

_hooks: list[dict[str, Callable[[], Any]]] = []
_register = os.register_at_fork
os.register_at_fork = lambda **hooks: _hooks.append(hooks)
import concurrent.futures.thread  # noqa: E402, F401 - what they register is taken down
import random  # noqa: E402

os.register_at_fork = _register
_seed = random._inst.seed
_hooks[:] = [hooks for hooks in _hooks if hooks.get("after_in_child") != _seed]
_threads = _thread._count
_others = False


def for_threads(hook: Callable[[], None]) -> None:
    """Have something done in the child of each fork at which there were other threads."""
    _hooks.append({"after_in_child": hook})


def _before() -> None:
    global _others
    _others = _threads() > 0
    _run("before", reversed(_hooks))


def _after_in_parent() -> None:
    _run("after_in_parent", _hooks)


def _after_in_child() -> None:
    _run("after_in_child", _hooks)


def _run(when: str, hooks: Iterable[dict[str, Callable[[], Any]]]) -> None:
    if _others:
        for each in hooks:
            if when in each:
                each[when]()


_register(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
