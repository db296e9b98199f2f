"""The clock of a run, which stands still while a person is waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Clock:
    """Tells the seconds that count."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Go on; ``now`` gives seconds that go on in any case."""
        self._now = now
        self._held_since: float | None = None
        self._held = 0.0
        self._holders = 0
        self.on_change: Callable[[], None] = lambda: None
        """Called when it stops and when it goes on, for the sake of timers."""

    def __call__(self) -> float:
        """Seconds since some beginning, less those for which it was held."""
        return (self._now() if self._held_since is None else self._held_since) - self._held

    @property
    def held(self) -> bool:
        """Whether it stands still."""
        return self._held_since is not None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Let it stand still; with several holders, until the last lets go."""
        self._holders += 1
        if self._holders == 1:
            self._held_since = self._now()
            self.on_change()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                assert self._held_since is not None
                self._held += self._now() - self._held_since
                self._held_since = None
                self.on_change()
