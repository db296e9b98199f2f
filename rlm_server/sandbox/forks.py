"""What does not survive a fork by itself is revived after it.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .at_fork import for_threads


def revive_thread_pools_after_forks() -> None:
    """Let thread pools of earlier cells notice that their threads did not cross the fork."""
    pools: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()
    original = ThreadPoolExecutor.__init__

    def remember(self: ThreadPoolExecutor, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        pools.add(self)

    def revive() -> None:
        for pool in list(pools):
            pool.__dict__.update(
                _threads=set(),
                _idle_semaphore=threading.Semaphore(0),
                _shutdown_lock=threading.Lock(),
            )

    ThreadPoolExecutor.__init__ = remember  # type: ignore[method-assign]
    for_threads(revive)
