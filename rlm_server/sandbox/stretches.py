"""Stretches of a text, from one offset to another, merged where they meet; bounded in memory.

Runs inside the sandbox, and in the server too: standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST = 4096
"""Stretches that are kept apart; of more, those with the smallest gaps are joined."""

_UNMERGED = 1024


class Stretches:
    """A set of characters, by where they stand."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._merged: list[tuple[int, int]] = []
        self._new: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Add the characters from ``start`` to ``end``; nothing where there is none."""
        if end > start:
            self._new.append((start, end))
            if len(self._new) >= _UNMERGED:
                self._merge()

    def update(self, stretches: Iterable[tuple[int, int]]) -> None:
        """Add many."""
        for start, end in stretches:
            self.add(start, end)

    def all(self) -> list[tuple[int, int]]:
        """The stretches, in order, none meeting another."""
        self._merge()
        return self._merged

    def total(self) -> int:
        """How many characters they have."""
        return sum(end - start for start, end in self.all())

    def _merge(self) -> None:
        if not self._new:
            return
        every, self._new = sorted(self._merged + self._new), []
        self._merged = _joined(every, 0)
        gap = 1
        while len(self._merged) > self._most:
            self._merged = _joined(self._merged, gap)
            gap *= 2


def _joined(stretches: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Join those in order that lie no further apart than ``gap``."""
    result: list[tuple[int, int]] = []
    first, last = stretches[0]
    for start, end in stretches:
        if start - last > gap:
            result.append((first, last))
            first, last = start, end
        elif end > last:
            last = end
    result.append((first, last))
    return result
