"""What a call has cost whose reply was no good, or did not come at all."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_server.protocol import Usage


def add(left: Usage, right: Usage) -> Usage:
    """The sum of two usages; a cost is unknown as soon as a part of it is."""
    known = left.cost is not None and right.cost is not None
    return Usage(
        prompt_tokens=left.prompt_tokens + right.prompt_tokens,
        completion_tokens=left.completion_tokens + right.completion_tokens,
        cached_tokens=left.cached_tokens + right.cached_tokens,
        cost=(left.cost or 0.0) + (right.cost or 0.0) if known else None,
    )


@dataclass
class Fate:
    """Becomes true of one call while it is made; whoever makes it looks when it has ended."""

    under_way: int = 0
    """Tries that servers have; where the call was cancelled, those may have to be paid. A call that
    only waited for a slot has none, nor has one that goes on for others who asked the same."""
    late: int = 0
    """Tries that were given up before anything came; they may have to be paid."""
    lost: Usage | None = None
    """What tries used that brought no good reply, as far as servers told; noted as costs already,
    and in no ``Completion``."""

    def lose(self, used: Usage | None) -> None:
        """Count what a try has used in vain."""
        if used is not None:
            self.lost = add(self.lost, used) if self.lost else used

    def take(self, other: Fate) -> None:
        """Make the fate of a call that was made for several that of one of them."""
        self.under_way += other.under_way
        self.late += other.late
        self.lose(other.lost)
