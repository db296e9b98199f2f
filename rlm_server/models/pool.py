"""The pool: which of a model's deployments a call goes to, and who waits for a slot."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum

from rlm_server.config import PoolConfig, Tier
from rlm_server.errors import ModelError
from rlm_server.models.choice import UNKNOWN, best
from rlm_server.models.deployments import Deployment
from rlm_server.models.server import Server

TIERS: Sequence[Tier] = ("local", "lan", "cloud")


class Priority(IntEnum):
    """Who gets a slot first."""

    WATCHED = 0
    """Its reply is streamed to somebody."""
    SUBCALL = 1
    SPECULATIVE = 2
    """May turn out not to be needed."""


class Lease:
    """A slot of a server, for one try."""

    __slots__ = ("probe", "returned", "server", "started")

    def __init__(self, server: Server, now: float) -> None:
        self.server = server
        self.started = now
        self.returned = False
        self.probe = server.begin(now)


class _Waiter:
    """A call that waits, or looks, for a slot."""

    def __init__(
        self,
        priority: Priority,
        number: int,
        since: float,
        prefix: bytes | None,
        avoid: Collection[Server],
    ) -> None:
        self.rank = (priority, number)
        self.since = since
        self.prefix = prefix
        self.avoid = avoid
        self.granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: _Waiter) -> bool:
        return self.rank < other.rank


class Group:
    """The deployments of one model, and the calls that wait for them.

    A call goes to the nearest tier with a free slot. While that tier is merely busy it waits,
    unless the queue would take longer than ``spill-after``. Within a tier the server with the
    least load times latency gets it, or the one that has the prompt's beginning in its cache.
    """

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self.servers: list[Server] = []
        self.used_at = clock()
        self._config = config
        self._clock = clock
        self._random = random
        self._tiers: list[list[Server]] = []
        self._queue: list[_Waiter] = []
        self._cancelled = 0  # since the queue was last cleared of such
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return sum(not waiter.granted.done() for waiter in self._queue)

    @property
    def busy(self) -> bool:
        """Whether there are calls that wait, or are being answered."""
        return any(server.in_flight for server in self.servers) or bool(self.waiting)

    def others(self, than: Collection[Server]) -> bool:
        """Whether there is a fit server besides these, be it busy."""
        now = self._clock()
        return any(s.open(now) and s not in than for tier in self._tiers for s in tier)

    def has(self, deployment: Deployment) -> bool:
        """Whether it is one of these."""
        return any(server.deployment is deployment for server in self.servers)

    def add(self, deployment: Deployment) -> None:
        """Take one more deployment in, such as one whose key has come."""
        self.servers.append(Server(deployment))
        self._tiers = list(_tiers(self.servers, self._config))
        self.dispatch()

    # ----------------------------------------------------------------------------------- slots

    async def acquire(
        self, priority: Priority, prefix: bytes | None = None, avoid: Collection[Server] = ()
    ) -> Lease:
        """Wait for a slot; servers in ``avoid`` give it only where no others are fit.

        The slot is held until ``give_back``. Raises ModelError where too many calls wait.
        """
        now = self.used_at = self._clock()
        waiter = _Waiter(priority, next(self._numbers), now, prefix, avoid)
        self._enqueue(waiter)
        self.dispatch()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._cancelled += 1
                if 2 * self._cancelled > len(self._queue):
                    self._clear()
            elif not waiter.granted.exception():
                self.give_back(waiter.granted.result())
            raise

    def spare(self, beside: Server) -> Lease | None:
        """A slot of another server of the same tier that is free right now, or None."""
        now = self._clock()
        room = [
            server
            for server in self.servers
            if server.tier == beside.tier
            and server is not beside
            and server.open(now)
            and server.has_room
        ]
        return Lease(best(room, now, random=self._random), now) if room else None

    @asynccontextmanager
    async def held(self, lease: Lease, *, measured: bool = True) -> AsyncIterator[Server]:
        """Use a slot, learn from what becomes of the call, and give the slot back.

        ``measured`` says whether the call's time is a measure for others.
        """
        server = lease.server
        try:
            yield server
        except ModelError as error:
            server.failed(error, lease.started, self._clock())
            raise
        else:
            now = self._clock()
            server.succeeded(now - lease.started if measured else None, now)
        finally:
            self.give_back(lease)

    def give_back(self, lease: Lease) -> None:
        """Free a slot; more than once does no harm."""
        if lease.returned:
            return
        lease.returned = True
        lease.server.end(probe=lease.probe)
        self.used_at = self._clock()
        self.dispatch()

    # ----------------------------------------------------------------------------------- queue

    def _clear(self) -> None:
        """Leave only those in the queue that still wait."""
        self._queue = [waiter for waiter in self._queue if not waiter.granted.done()]
        heapq.heapify(self._queue)
        self._cancelled = 0

    def _enqueue(self, waiter: _Waiter) -> None:
        if len(self._queue) >= self._config.queue:
            self._clear()
        if len(self._queue) >= self._config.queue:
            last = max(self._queue)
            full = ModelError(
                f"{len(self._queue):,} calls wait for {self.name} already.",
                cure="Ask for fewer at once, or raise queue in [pool].",
            )
            if last < waiter:
                raise full
            last.granted.set_exception(full)
            self._queue.remove(last)
            heapq.heapify(self._queue)
        heapq.heappush(self._queue, waiter)

    def dispatch(self) -> None:
        """Give free slots to those who wait, the first in rank first."""
        now = self._clock()
        passed: list[_Waiter] = []
        while self._queue:
            waiter = self._queue[0]
            if not waiter.granted.done():
                server = self._pick(waiter, now)
                if server is not None:
                    waiter.granted.set_result(Lease(server, now))
                elif waiter.avoid and any(s.open(now) and s.has_room for s in self.servers):
                    passed.append(waiter)  # another may want what this one avoids
                else:
                    break
            heapq.heappop(self._queue)
        for waiter in passed:
            heapq.heappush(self._queue, waiter)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        """See to it that those who wait are looked at again when only time has passed."""
        self.close()
        if not self._queue:
            return
        times = [time for server in self.servers if (time := server.back_at(now))]
        spills = self._queue[0].since + self._config.spill_after
        if len(self._tiers) > 1 and spills > now:
            times.append(spills)
        if times:
            loop = asyncio.get_running_loop()
            # A little later than the time itself: clocks round.
            self._timer = loop.call_later(min(times) - now + 0.001, self.dispatch)

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------ the choice

    def _pick(self, waiter: _Waiter, now: float) -> Server | None:
        # One of another tier is better than the one that has failed this very call.
        if waiter.avoid and self.others(waiter.avoid):
            others = [[s for s in tier if s not in waiter.avoid] for tier in self._tiers]
            return self._nearest(waiter, others, now)
        return self._nearest(waiter, self._tiers, now)

    def _nearest(
        self, waiter: _Waiter, tiers: Sequence[Sequence[Server]], now: float
    ) -> Server | None:
        waits = False
        for tier in tiers:
            fit = [server for server in tier if server.open(now)]
            room = [server for server in fit if server.has_room]
            if room:
                prefix = waiter.prefix if self._config.affinity else None
                return best(room, now, prefix=prefix, random=self._random)
            # One that asked for a pause is busy; one that is left out isn't there.
            busy = fit or [server for server in tier if server.resting(now)]
            waits = waits or bool(busy)
            if busy and not self._spills(waiter, busy, now):
                return None
        return None if waits else self._last_resort()

    def _spills(self, waiter: _Waiter, busy: Sequence[Server], now: float) -> bool:
        """Whether the wait for a slot of these would be too long."""
        patience = self._config.spill_after
        if now - waiter.since >= patience:
            return True
        if all((server.back_at(now) or now) - now > patience for server in busy):
            return True
        rate = sum(server.slots.limit / (server.latency.at(now) or UNKNOWN) for server in busy)
        return len(self._queue) / rate > patience

    def _last_resort(self) -> Server | None:
        """Where all are left out, a call finds out at once how the likeliest one is.

        It would otherwise wait only to be told that nothing answers.
        """
        left = [server for tier in self._tiers for server in tier if server.has_room]
        return min(left, key=lambda server: server.out_until, default=None)


def _tiers(servers: Sequence[Server], config: PoolConfig) -> Iterator[list[Server]]:
    """The servers by tier, the nearest first, those left away that may not be spilled to."""
    first = True
    for tier in TIERS:
        members = [server for server in servers if server.tier == tier]
        if not first and config.spill == "never":
            return
        if not first and config.spill == "free":
            members = [server for server in members if server.deployment.free]
        if members:
            first = False
            yield members
