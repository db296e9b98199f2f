"""The ledger: what a run has used and may still use; each call reserves before it is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rlm_server.models import add, most_tokens
from rlm_server.protocol import Limits, Usage
from rlm_server.text import dollars

ANSWER_TOKENS = 8192
"""What a call may answer with under a token or cost limit, since a reservation needs a bound."""


class LimitReached(Exception):  # noqa: N818 - it is an outcome of a run, not a fault
    """A limit of the run forbids the next step; the message names the limit."""


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens; None where unknown."""

    prompt: float | None
    completion: float | None

    def of(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars for so many tokens; None where the price is unknown."""
        if self.prompt is None or self.completion is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1_000_000


@dataclass(frozen=True)
class Reservation:
    """What one call may use at worst."""

    node: str
    tokens: int
    cost: float
    subcall: bool


class Ledger:
    """One for a whole run. Every reservation is followed by one ``settle``."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing used; ``clock`` is in seconds."""
        self.limits = limits
        """May be replaced at any time; what is reserved stays so."""
        self._clock = clock
        self.started = clock()
        self.warned: set[str] = set()
        """Kinds of limits of which it was told that they are near."""
        self.last_reply = Reservation("0", 0, 0.0, subcall=False)
        """What was set aside for the latest reply of a root model."""
        self.usage = Usage()
        """Of all questions."""
        self.spent = Usage()
        """Of this question, to which the limits apply."""
        self._earlier_seconds = 0.0
        self._earlier_subcalls = 0
        self.subcalls_started = 0
        self.subcalls_done = 0
        self._by_node: dict[str, Usage] = {}
        self._reserved_tokens = 0
        self._reserved_cost = 0.0

    def begin_question(self, limits: Limits) -> None:
        """Begin with a further question, which has limits of its own."""
        self._earlier_seconds = self.all_seconds
        self._earlier_subcalls = self.subcalls_started
        self.limits, self.spent, self.started = limits, Usage(), self._clock()
        self.warned.clear()

    @property
    def bounded(self) -> bool:
        """Whether calls must be told a bound for their answer."""
        return self.limits.tokens is not None or self.limits.cost is not None

    @property
    def tokens(self) -> int:
        """Tokens used for this question."""
        return self.spent.prompt_tokens + self.spent.completion_tokens

    @property
    def subcalls(self) -> int:
        """Sub-calls begun for this question."""
        return self.subcalls_started - self._earlier_subcalls

    @property
    def seconds(self) -> float:
        """Time used for this question."""
        return self._clock() - self.started

    @property
    def all_seconds(self) -> float:
        """Time used for all questions."""
        return self._earlier_seconds + self.seconds

    @property
    def seconds_left(self) -> float:
        """Time left; negative where the limit is over."""
        return self.limits.seconds - self.seconds

    def check_time(self) -> None:
        """Raise LimitReached once the time is over."""
        if self.seconds_left <= 0:
            raise LimitReached(f"the limit of {self.limits.seconds:g} s is over")

    def count_subcall(self) -> None:
        """Count a sub-call, or a child run, that begins; raises LimitReached if none is left."""
        if self.subcalls >= self.limits.subcalls:
            raise LimitReached(f"the limit of {self.limits.subcalls} sub-calls is reached")
        self.subcalls_started += 1

    def reserve(
        self, node: str, prompts: Iterable[str], price: Price, *, subcall: bool
    ) -> Reservation:
        """Set aside what a call may use at worst; raises LimitReached if there isn't so much."""
        limits = self.limits
        prompt_tokens = most_tokens(prompts)
        tokens = prompt_tokens + ANSWER_TOKENS
        cost = self._cost_at_worst(price.of(prompt_tokens, ANSWER_TOKENS))
        if limits.tokens is not None and self._tokens() + tokens > limits.tokens:
            raise LimitReached(
                f"the limit of {limits.tokens:,} tokens leaves no room for a call of up to "
                f"{tokens:,} ({self._tokens():,} are used or set aside)"
            )
        if subcall:
            self.count_subcall()
        self._reserved_tokens += tokens
        self._reserved_cost += cost
        reservation = Reservation(node, tokens, cost, subcall)
        if not subcall:
            self.last_reply = reservation
        return reservation

    def restore(self, node: str, used: Usage, subcalls: int = 0) -> None:
        """Count what the record of a resumed run has; limits count it too."""
        self.subcalls_started += subcalls
        self.subcalls_done += subcalls
        self.usage, self.spent = add(self.usage, used), add(self.spent, used)
        self._charge(node, used)

    def go_on(self, seconds: float, earlier: float = 0.0) -> None:
        """Let so much wall time be used already, and so much for earlier questions."""
        self.started, self._earlier_seconds = self._clock() - seconds, earlier

    def settle(self, reservation: Reservation, used: Usage | None) -> None:
        """Replace a reservation by what was used; None for a call that was not paid."""
        self._reserved_tokens -= reservation.tokens
        self._reserved_cost -= reservation.cost
        self.subcalls_done += reservation.subcall
        if used is not None:
            self.usage, self.spent = add(self.usage, used), add(self.spent, used)
            self._charge(reservation.node, used)

    def below(self, node: str) -> Usage:
        """What everything below a node, and itself, has used."""
        return self._by_node.get(node, Usage())

    def _charge(self, node: str, used: Usage) -> None:
        """Count a call for its node and for every ancestor."""
        while node:
            self._by_node[node] = add(self.below(node), used)
            node = node.rpartition(".")[0]

    def _cost_at_worst(self, cost: float | None) -> float:
        limit = self.limits.cost
        if limit is None:
            return cost or 0.0  # set aside all the same: a limit may be set meanwhile
        if cost is None or self.spent.cost is None:
            raise LimitReached(
                f"a model's price is unknown, so the cost limit of {dollars(limit)} can't be kept; "
                "set input-price and output-price for it in the configuration"
            )
        if self.spent.cost + self._reserved_cost + cost > limit:
            raise LimitReached(
                f"the cost limit of {dollars(limit)} leaves no room for a call of up to "
                f"${cost:.4f} (${self.spent.cost + self._reserved_cost:.4f} is used or set aside)"
            )
        return cost

    def _tokens(self) -> int:
        return self.tokens + self._reserved_tokens
