"""What a Retry-After header says."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime


def seconds_of(value: str, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header, which is a number or a date."""
    with suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
