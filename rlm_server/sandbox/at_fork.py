"""What the standard library does in the child of each fork, as far as it is needed here.

Imported before anything else. Each cell begins with a fork, whose child copies every page that it
writes to: seeding ``random`` anew and setting up ``threading`` anew would take a third of what the
fork itself takes. The state of ``random`` is to cross the fork, so that cells find the same numbers
when they run again, and ``threading`` has nothing to set up where there is one thread.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable
from typing import Any

_hooks: list[dict[str, Callable[[], Any]]] = []
_register = os.register_at_fork
os.register_at_fork = lambda **hooks: _hooks.append(hooks)
import random  # noqa: E402 - what they register is taken down
import threading  # noqa: E402

os.register_at_fork = _register


def _after_fork() -> None:
    """Do what ``threading`` does, where there were other threads, of whatever kind."""
    if threading.active_count() != 1 or _thread._count():
        threading._after_fork()  # type: ignore[attr-defined]


for _hook in _hooks:
    _what = _hook.get("after_in_child")
    if _what == threading._after_fork:  # type: ignore[attr-defined]
        _register(after_in_child=_after_fork)
    elif _what != random._inst.seed:
        _register(**_hook)
