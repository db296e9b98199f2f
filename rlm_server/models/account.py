"""On whose behalf calls are made: which run, for which project, and with which use of the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Account:
    """One per run. Calls without one are neither kept in the cache nor in the costs."""

    run_id: str
    project: str | None = None
    read_cache: bool = True
    """Whether kept answers may be used."""
    write_cache: bool = True
    """Whether new answers are kept."""
    watchers: int = 0
    """Clients that follow the run now; what they look at comes before the calls of others."""
    _asked: Counter[bytes] = field(default_factory=Counter, repr=False)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count one more client that follows the run."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    def sample(self, request: bytes) -> int:
        """How often this run has asked the same before, from 0; counts this time."""
        number = self._asked[request]
        self._asked[request] += 1
        return number
