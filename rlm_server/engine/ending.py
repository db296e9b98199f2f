"""How the work on a question ended, whatever ended it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass

from rlm_server.engine.calls import run_error
from rlm_server.engine.ledger import Ledger, LimitReached
from rlm_server.errors import RlmError
from rlm_server.protocol import RunError, RunStatus

logger = logging.getLogger(__name__)

GRACE_SECONDS = 0.25
"""What a cell gets to end after its interrupt, when the run is cancelled or its time is over."""


@dataclass
class End:
    """An end as ``runEnded`` tells it."""

    status: RunStatus
    reason: str
    error: RunError | None = None


async def end_of(work: Coroutine[None, None, None], timer: asyncio.Timeout, ledger: Ledger) -> End:
    """Do the work until the timer ends it. Never raises."""
    try:
        async with timer:
            await work
        return End("done", "The question is answered.")
    except LimitReached as limit:
        return End("limit", f"Stopped: {limit}.")
    except TimeoutError:
        if timer.expired():
            seconds = ledger.limits.seconds
            return End("limit", f"Stopped: the limit of {seconds:g} s is over.")
        logger.exception("a run failed")
        return _internal("An operation timed out.")
    except RlmError as error:
        return End("failed", str(error), run_error(error))
    except asyncio.CancelledError:
        return End("cancelled", "Cancelled.")
    except Exception as error:
        logger.exception("a run failed")
        return _internal(f"{type(error).__name__}: {error}")


def _internal(message: str) -> End:
    return End(
        "failed", f"An internal error: {message}", RunError(kind="internal", message=message)
    )
