"""One deployment as the pool sees it: slots, speed, and whether it is fit to be asked."""

from __future__ import annotations

from typing import Literal

from rlm_server.errors import (
    ModelError,
    NoKeyError,
    RateLimitedError,
    TransientError,
    UnreachableError,
)
from rlm_server.models.deployments import Deployment
from rlm_server.models.latency import Latency
from rlm_server.models.retry import LONGEST_WAIT
from rlm_server.models.slots import Slots

FAILURES = 3
"""Passing faults in a row after which a server is left out; one without an answer at all, or
that refuses every call, is left out at once."""

LONGEST_OUT = 60.0
"""Seconds that a server is left out at most before it is tried again."""

LONGEST_LIMIT = 3600.0
"""Seconds that a Retry-After is believed at most."""

SHORT_REST = 0.5
"""Seconds without new calls after a 429 that tells no time."""

Health = Literal["untried", "ok", "limited", "trying", "down"]


class Server:
    """The state of one deployment. Times are those of the pool's clock, in seconds."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.tier = deployment.tier
        self.slots = Slots(deployment.settings.slots, deployment.usual_slots)
        self.latency = Latency()
        self.in_flight = 0
        self.others = 0
        """Calls of other clients that it has, as its last health check told."""
        self.calls = 0
        self.detail = ""
        self._failures = 0
        self._times_out = 0
        self._out_until: float | None = None
        self._rests_until = 0.0
        self._probed = False

    # ---------------------------------------------------------------------------- what it can take

    @property
    def has_room(self) -> bool:
        """Whether another call would find a slot."""
        return self.in_flight < self.slots.whole

    def open(self, now: float) -> bool:
        """Whether it may be asked at all: not left out, not resting, not on probation."""
        if self._rests_until > now:
            return False
        return self._out_until is None or (self._out_until <= now and not self._probed)

    def back_at(self, now: float) -> float | None:
        """When it may be asked again by itself; None: it may now, or an answer decides."""
        until = max(self._rests_until, self._out_until or 0.0)
        return until if until > now else None

    def resting(self, now: float) -> bool:
        """Whether nothing but a pause that it asked for keeps it from being asked.

        One that asks for a longer pause than any call waits isn't there at all.
        """
        return now < self._rests_until <= now + LONGEST_WAIT and self._out_until is None

    @property
    def out_until(self) -> float:
        """Until when it is left out; for the choice among those that all are."""
        return max(self._rests_until, self._out_until or 0.0)

    def load(self, latency: float) -> float:
        """What another call would find: the share of its slots in use times its slowness."""
        return (self.in_flight + self.others + 1) / self.slots.limit * latency

    def health(self, now: float) -> Health:
        """Its state in a word."""
        if self._rests_until > now:
            return "limited"
        if self._out_until is not None:
            return "trying" if self._probed or self._out_until <= now else "down"
        return "ok" if self.calls else "untried"

    # ------------------------------------------------------------------------------ what happened

    def begin(self, now: float) -> bool:
        """Take a slot; true where this call decides whether the server is back."""
        self.in_flight += 1
        probe = self._out_until is not None and self._out_until <= now and not self._probed
        self._probed = self._probed or probe
        return probe

    def end(self, *, probe: bool) -> None:
        """Give the slot back, whatever became of the call."""
        self.in_flight -= 1
        if probe:
            self._probed = False

    def succeeded(self, seconds: float | None, now: float) -> None:
        """A call was answered; ``seconds`` is None where its time is no measure for others."""
        self.calls += 1
        self._failures = self._times_out = 0
        self._out_until = None
        self.slots.answered(seconds, now, self.in_flight)
        if seconds is not None:
            self.latency.observe(seconds, now)

    def failed(self, error: ModelError, started: float, now: float) -> None:
        """A call failed that began at ``started``."""
        if isinstance(error, RateLimitedError):
            self._limited(error.retry_after, started, now)
        elif isinstance(error, UnreachableError) or error.elsewhere:
            if isinstance(error, NoKeyError):
                self._times_out = 10  # its source may have asked a person: not again soon
            self.leave_out(now)
        elif isinstance(error, TransientError):
            self.latency.observe_failure(now - started, now)
            self._failures += 1
            if self._failures >= FAILURES or self._out_until is not None:
                self.leave_out(now)

    def leave_out(self, now: float) -> None:
        """Ask it nothing for a while, for longer each time in a row."""
        if self._out_until is not None and self._out_until > now:
            return  # calls that failed together count once
        self._out_until = now + min(LONGEST_OUT, 2.0**self._times_out)
        self._times_out = min(self._times_out + 1, 10)

    def may_return(self, now: float) -> None:
        """A health check found it well: let the next call decide, without further waiting."""
        if self._out_until is not None:
            self._out_until = min(self._out_until, now)

    def _limited(self, retry_after: float | None, started: float, now: float) -> None:
        rest = SHORT_REST if retry_after is None else min(retry_after, LONGEST_LIMIT)
        self._rests_until = max(self._rests_until, now + rest)
        self.slots.refused(started, now)
