"""Getting a reply out of a model's deployments: tries, pauses, another server, a second one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rlm_server.errors import (
    ContextTooLongError,
    ModelError,
    NoKeyError,
    RateLimitedError,
    TransientError,
    UnreachableError,
)
from rlm_server.models.affinity import prefix_of
from rlm_server.models.calls import Listener, Message, Part
from rlm_server.models.deployments import Deployment
from rlm_server.models.fate import Fate
from rlm_server.models.hedging import hedged
from rlm_server.models.pool import Group, Lease, Priority
from rlm_server.models.retry import gave_up, pause
from rlm_server.models.server import Server

PASSING = (TransientError, RateLimitedError, UnreachableError)
"""Faults after which another try, or another server, may succeed."""


@dataclass
class Ask:
    """One call as it was asked for, whoever will answer it."""

    messages: Sequence[Message]
    listener: Listener | None
    max_tokens: int | None
    priority: Priority
    fate: Fate = field(default_factory=Fate)
    prefix: bytes | None = field(init=False)
    hedged: bool = field(init=False, default=False)
    """Whether a second server was asked, since the first took longer than it mostly does."""

    def __post_init__(self) -> None:
        self.prefix = prefix_of(self.messages)


R = TypeVar("R")
"""What a try brings back: a reply, or a vector."""


class Asker(Generic[R]):
    """Asks a group of deployments until there is a reply, or another try would not help."""

    def __init__(
        self,
        send: Callable[[Deployment, Ask, Stream], Awaitable[R]],
        *,
        hedge: bool,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        """``send`` makes one try at one deployment, and raises only ModelError."""
        self._send = send
        self._hedge = hedge
        self._sleep = sleep
        self._random = random

    async def ask(self, group: Group, ask: Ask) -> tuple[R, Deployment]:
        """The reply, and who gave it. Raises ModelError.

        A call that failed goes to another fit server at once. Only where there is none, it waits
        and tries again, a few times.
        """
        tries = rounds = 0
        failed: list[Server] = []
        while True:
            tries += 1
            stream = Stream(ask.listener)
            try:
                return await self._try(group, ask, stream, failed)
            except ModelError as error:
                failure = error
            if not failed or not (failure.elsewhere or isinstance(failure, PASSING)):
                raise failure
            # Counted too: one that fails and recovers by turns would be asked without end.
            if len(failed) < len(group.servers) and group.others(failed):
                stream.tell(failure, "Asking another server.")
                continue
            rounds += 1
            retries = failed[-1].deployment.settings.retries
            seconds = pause(failure, rounds, retries, self._random)
            if seconds is None:
                raise gave_up(failure, tries)
            stream.tell(failure, f"Trying again in {seconds:.1f} s.")
            failed.clear()
            await self._sleep(seconds)

    async def _try(
        self, group: Group, ask: Ask, stream: Stream, failed: list[Server]
    ) -> tuple[R, Deployment]:
        lease = await group.acquire(ask.priority, ask.prefix, failed)
        after = lease.server.latency.p95() if self._may_hedge(lease.server, ask) else None
        if after is None:
            return await self._run(group, lease, ask, stream, failed)
        leases = [lease]

        def second() -> Coroutine[Any, Any, tuple[R, Deployment]] | None:
            spare = group.spare(lease.server)
            if spare is None or not spare.server.deployment.free:
                return None
            leases.append(spare)
            ask.hedged = True
            return self._run(group, spare, ask, stream, failed)

        try:
            return await hedged(self._run(group, lease, ask, stream, failed), after, second)
        finally:
            for each in leases:  # a task that was cancelled before it began has returned nothing
                group.give_back(each)

    async def _run(
        self, group: Group, lease: Lease, ask: Ask, stream: Stream, failed: list[Server]
    ) -> tuple[R, Deployment]:
        # A streamed reply takes as long as its text is; it would make its server look slow.
        async with group.held(lease, measured=ask.listener is None) as server:
            ask.fate.under_way += 1
            try:
                reply = await self._send(server.deployment, ask, stream)
            except ModelError as error:
                failed.append(server)
                ask.fate.under_way -= 1
                ask.fate.lose(error.used)
                if not stream.begun:
                    ask.fate.late += error.late
                raise
            ask.fate.under_way -= 1
            return reply, server.deployment

    def _may_hedge(self, server: Server, ask: Ask) -> bool:
        # What a cancelled call has cost is never told; so only where calls cost nothing.
        return self._hedge and ask.listener is None and server.deployment.free


class Stream:
    """Passes the pieces of one try on, and knows whether there were any."""

    def __init__(self, listener: Listener | None) -> None:
        self.begun = False
        self.listener = listener

    def delta(self, part: Part, text: str) -> None:
        """Pass a piece on."""
        self.begun = True
        if self.listener:
            self.listener.delta(part, text)

    def tell(self, error: ModelError, what_next: str) -> None:
        """Say that this try has failed, and what is done about it."""
        if self.listener and self.begun:
            self.listener.restarted(error.message.rstrip("."))
        elif self.listener:
            self.listener.notice(f"{error.message} {what_next}")


def may_fall_back(error: ModelError) -> bool:
    """Whether another model may be asked in place of one that failed so.

    A request that was refused for what it says would be refused again, or should be.
    """
    return error.elsewhere or isinstance(error, (*PASSING, ContextTooLongError, NoKeyError))
