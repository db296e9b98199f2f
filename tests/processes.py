"""What processes there are, read from /proc."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path


def state(pid: int) -> str | None:
    """The letter that the kernel has for what a process does; None if it doesn't exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def alive(pid: int) -> bool:
    """Whether a process exists and isn't a zombie."""
    return state(pid) not in (None, "Z")


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended meanwhile
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


async def gone(pids: list[int], seconds: float = 60) -> None:
    """Wait until none of the processes is alive; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while any(map(alive, pids)):
            await asyncio.sleep(0.01)
