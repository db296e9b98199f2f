"""Answers from the cache, and one call for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from rlm_server.models.account import Account
from rlm_server.models.cache.entry import (
    ASKED,
    CacheStore,
    Entry,
    deterministic,
    request_key,
    sample_key,
)
from rlm_server.models.calls import Completion, Listener, Message, Part
from rlm_server.models.deployments import Deployment
from rlm_server.models.fate import Fate
from rlm_server.protocol import Usage

Ask = Callable[[Listener | None, Fate], Awaitable[Completion]]


class AnswerCache:
    """Asks a model only for what isn't kept.

    At temperature 0, or with a seed, a request has one answer. Otherwise a model may say
    something else each time, and a run that asks twice wants to see that: so the n-th repeat of a
    request within a run has an answer of its own. Running the same again finds them all.
    """

    def __init__(
        self,
        store: CacheStore | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without a store nothing is kept."""
        self.store = store
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}

    async def complete(
        self,
        deployment: Deployment,
        messages: Sequence[Message],
        *,
        max_tokens: int | None,
        listener: Listener | None,
        account: Account,
        ask: Ask,
        fate: Fate,
    ) -> Completion:
        """The answer that is kept, or what ``ask`` gets.

        A kept answer goes to the listener as one piece. Of several who wait for the same call
        only the first hears it grow; the call is cancelled when the last of them is. Its fate is
        the first's, or the last one's who left.
        """
        store = self.store
        if store is None or not (account.read_cache or account.write_cache):
            return await ask(listener, fate)
        started = time.monotonic()
        request = request_key(deployment, messages, max_tokens)
        sample = account.sample(request)
        key = sample_key(request, 0 if deterministic(deployment) else sample)

        async def fetch(listener: Listener | None, fate: Fate) -> Completion:
            completion = await ask(listener, fate)
            answered = completion.deployment
            # A substitute's answer is not what this request would be answered with, nor is that of
            # another model under the same name.
            same = answered == deployment or (
                answered and request_key(answered, messages, max_tokens) == request
            )
            if account.write_cache and same:
                await store.put(key, self._entry(completion, deployment, messages))
            return completion

        if not account.read_cache:
            return await fetch(listener, fate)
        entry = await store.get(key)
        if entry:
            completion = _kept(entry, deployment)
        else:
            completion = await self._together(store, key, deployment, fetch, listener, fate)
        if completion.cached:
            completion.seconds = time.monotonic() - started
            if listener:
                listener.delta("text", completion.text)
        return completion

    async def close(self) -> None:
        """Let the store go."""
        if self.store is not None:
            await self.store.close()

    async def _together(
        self,
        store: CacheStore,
        key: bytes,
        deployment: Deployment,
        fetch: Ask,
        listener: Listener | None,
        fate: Fate,
    ) -> Completion:
        """Wait for the call that others made already, or make it."""
        flight = self._flights.get(key)
        tap = None
        if first := flight is None:
            tap = _Tap(listener) if listener else None
            shared = Fate()
            task = asyncio.create_task(self._fly(store, key, deployment, fetch, tap, shared))
            flight = self._flights[key] = _Flight(task, shared)
            task.add_done_callback(lambda task: self._landed(key, task))
        flight.waiting += 1
        try:
            # Shielded: the others still want it when this caller is cancelled.
            completion = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if tap:
                tap.listener = None
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()
                # The connection is closed and the slot free when this caller goes on.
                await asyncio.wait({flight.task})
                fate.take(flight.fate)
            elif first and flight.task.done():
                fate.take(flight.fate)
        return completion if first else _again(completion)

    async def _fly(
        self,
        store: CacheStore,
        key: bytes,
        deployment: Deployment,
        fetch: Ask,
        listener: Listener | None,
        fate: Fate,
    ) -> Completion:
        async with store.turn(key) as entry:
            return _kept(entry, deployment) if entry else await fetch(listener, fate)

    def _landed(self, key: bytes, task: asyncio.Task[Completion]) -> None:
        if (flight := self._flights.get(key)) and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # those who waited have it, and there may be none

    def _entry(
        self, completion: Completion, deployment: Deployment, messages: Sequence[Message]
    ) -> Entry:
        return Entry(
            text=completion.text,
            model=deployment.model,
            prompt_tokens=completion.usage.prompt_tokens,
            completion_tokens=completion.usage.completion_tokens,
            created=self._clock(),
            asked=messages[-1]["content"][:ASKED] if messages else "",
        )


@dataclass
class _Flight:
    """A call on its way, and how many wait for it."""

    task: asyncio.Task[Completion]
    fate: Fate
    waiting: int = 0


class _Tap:
    """Passes on what a call says, until its listener has gone."""

    def __init__(self, listener: Listener) -> None:
        self.listener: Listener | None = listener

    def delta(self, part: Part, text: str) -> None:
        if self.listener:
            self.listener.delta(part, text)

    def restarted(self, reason: str) -> None:
        if self.listener:
            self.listener.restarted(reason)

    def notice(self, text: str) -> None:
        if self.listener:
            self.listener.notice(text)


def _kept(entry: Entry, deployment: Deployment) -> Completion:
    usage = Usage(
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        cached_tokens=entry.prompt_tokens,
    )
    return Completion(text=entry.text, usage=usage, model=deployment.name, seconds=0.0, cached=True)


def _again(completion: Completion) -> Completion:
    """What somebody else has paid, for one who waited with them."""
    usage = completion.usage
    shared = msgspec.structs.replace(usage, cached_tokens=usage.prompt_tokens, cost=0.0)
    return msgspec.structs.replace(completion, usage=shared, cached=True)
