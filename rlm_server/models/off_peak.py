"""The hours in which a provider charges less, as the price map tells them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec


class Hours(msgspec.Struct, frozen=True):
    """Hours of some days of the week."""

    hours_utc: str | list[str] = []
    """``HH:MM-HH:MM``, the end excluded; from a time to itself is the whole day."""
    weekdays: list[int] | None = None
    """From 1, Monday; None: every day."""

    def at(self, clock: str, day: int) -> bool:
        """Whether a time of a day of the week is one of them."""
        spans = [self.hours_utc] if isinstance(self.hours_utc, str) else self.hours_utc
        return (self.weekdays is None or day in self.weekdays) and any(
            begin <= clock < end if begin < end else clock >= begin or clock < end
            for begin, _, end in (span.partition("-") for span in spans)
        )


class OffPeak(Hours, frozen=True):
    """All hours in which less is charged."""

    windows: list[Hours] = []
    weekday_timezone: str = "UTC"
    """Where the days of the week are those that are meant."""

    def open(self, when: datetime) -> bool:
        """Whether less is charged at this time, which has a time zone."""
        clock = when.astimezone(UTC).strftime("%H:%M")
        day = when.astimezone(self._zone()).isoweekday()
        return any(hours.at(clock, day) for hours in (self, *self.windows))

    def _zone(self) -> tzinfo:
        try:
            return ZoneInfo(self.weekday_timezone)
        except (ValueError, ZoneInfoNotFoundError):
            return UTC
