"""How much memory the namespace takes, and which variables take it.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import heapq
import mmap
import resource
import sys
from typing import Any

_LARGEST = 8  # variables that are named
_WORTH_NAMING = 10_000  # bytes
_LOOKED_AT = 20_000  # objects of one variable that are measured; the rest is estimated
_NO_LIMIT = 1 << 46


def used_and_limit() -> tuple[int, int]:
    """Return the bytes in use and those allowed, 0 for no limit; of the context nothing counts."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if sys.platform == "linux" and limit != resource.RLIM_INFINITY:
        return limit - _free(limit), limit
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = peak if sys.platform == "darwin" else peak * 1024
    return used, limit if limit < _NO_LIMIT else 0


def _free(limit: int) -> int:
    """Find out by trying what may still be had; no page of it is touched."""
    fits, too_much = 0, limit + 1
    while too_much - fits > 1 << 16:
        size = (fits + too_much) // 2
        try:
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
            fits = size
        except OSError:
            too_much = size
    return fits


def report(variables: dict[str, Any]) -> str:
    """Say how much memory is in use and which variables take most of it."""
    used, limit = used_and_limit()
    allowed = f" of {readable(limit)}" if limit else ""
    lines = [f"{readable(used)}{allowed} used; the context takes none of it."]
    sizes = {name: size_of(value) for name, value in variables.items()}
    sizes = {name: size for name, size in sizes.items() if size >= _WORTH_NAMING}
    for name in heapq.nlargest(_LARGEST, sizes, key=lambda name: sizes[name]):
        lines.append(f"{name}: {type(variables[name]).__name__}, {readable(sizes[name])}")
    return "\n".join(lines)


def size_of(value: Any) -> int:
    """Estimate the bytes that a value takes with what it holds, shared parts included."""
    pending, seen = [value], set[int]()
    total = looked_at = 0
    while pending and looked_at < _LOOKED_AT:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        looked_at += 1
        total += _own_size(one)
        pending.extend(_parts(one))
    return total + total // max(1, looked_at) * len(pending)


def _own_size(value: Any) -> int:
    if isinstance(value, str) and (getattr(value, "mapped", False) or hasattr(value, "documents")):
        return 0  # its characters are the context's
    try:
        return sys.getsizeof(value)
    except Exception:
        return 0


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and not isinstance(value, (str, type)):
        return list(held.values())
    return []


def readable(size: int) -> str:
    """Write a number of bytes for people."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
