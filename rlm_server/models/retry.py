"""When a failed call is tried again, and after how long."""

from __future__ import annotations

from collections.abc import Callable

from rlm_server.errors import ModelError, RateLimitedError, TransientError, UnreachableError

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0
LONGEST_WAIT = 60.0
"""Seconds. A provider that asks for a longer wait gets no further try, and that is said."""


def pause(error: ModelError, tries: int, retries: int, random: Callable[[], float]) -> float | None:
    """Seconds before the next try, after ``tries`` failed ones; None: give up.

    Pauses double and are spread by chance, so that calls that failed together don't return
    together. A server that nothing answers for gets one more try only.
    """
    if tries > retries or (isinstance(error, UnreachableError) and tries > 1):
        return None
    if not isinstance(error, (TransientError, RateLimitedError, UnreachableError)):
        return None
    spread = 0.5 + random() / 2
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return None if asked > LONGEST_WAIT else asked + spread
    return min(FIRST_PAUSE * 2.0 ** min(tries - 1, 10), LONGEST_PAUSE) * spread


def gave_up(error: ModelError, tries: int) -> ModelError:
    """The error as it is told when no further try is made."""
    asked = getattr(error, "retry_after", None)
    if asked is not None and asked > LONGEST_WAIT:
        error.message += f" It asks to wait {asked:.0f} s; rlm waits {LONGEST_WAIT:.0f} s at most."
    elif tries > 1:
        error.message += f" ({tries} tries)"
    return error
