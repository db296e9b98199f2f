"""Asking a second server when the first one takes longer than usual; the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def hedged(
    first: Coroutine[Any, Any, T],
    after: float,
    second: Callable[[], Coroutine[Any, Any, T] | None],
) -> T:
    """The result of ``first``, or of ``second``, which begins after so many seconds.

    ``second`` may say None where there is nobody to ask. The one that is not needed any more is
    cancelled, and has ended when this returns or raises. An exception of one counts only where
    the other has failed too.
    """
    tasks = [asyncio.create_task(first)]
    try:
        done, _ = await asyncio.wait(tasks, timeout=after)
        if not done and (other := second()) is not None:
            tasks.append(asyncio.create_task(other))
        return await _first_success(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_success(tasks: list[asyncio.Task[T]]) -> T:
    pending = set(tasks)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.exception():
                return task.result()
        if not pending:
            return tasks[0].result()
