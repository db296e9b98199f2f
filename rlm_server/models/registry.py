"""``Models``: all that the engine sees of models."""

from __future__ import annotations

import asyncio
import os
import random as chance
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial

from rlm_server.config import Config
from rlm_server.models import discovery
from rlm_server.models.account import Account
from rlm_server.models.asking import Ask
from rlm_server.models.cache.answers import AnswerCache
from rlm_server.models.cache.entry import request_key
from rlm_server.models.cache.open import open_database, open_semantic, open_store
from rlm_server.models.calls import Completion, Embedding, Listener, Message
from rlm_server.models.carriers import Carriers
from rlm_server.models.catalogue import Catalogue
from rlm_server.models.costs import Costs
from rlm_server.models.dispatch import Dispatch
from rlm_server.models.fate import Fate
from rlm_server.models.health import check, checkable
from rlm_server.models.pool import Priority
from rlm_server.models.prices import highest, price_of
from rlm_server.models.report import info_of
from rlm_server.models.used import at_most, completion_of, usage_of_vector
from rlm_server.protocol import KeyWanted, ModelInfo, Usage

KeysWanted = list[KeyWanted]
Infos = list[ModelInfo]
Names = list[str]

FLUSH_SECONDS = 1.0
"""What the end of a run waits at most for its costs and answers to be on disk."""


class Models:
    """The models that a run may name, and calls to them."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        ollama_url: str = discovery.OLLAMA_URL,
        vllm_url: str = discovery.VLLM_URL,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = chance.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is configured, and with ``discover`` set what keys there are.

        ``sleep``, ``random`` and ``clock`` are for tests; the clock is in seconds. Raises
        ConfigError for a model that can't be used as it is configured.
        """
        self._discover = config.discover
        self._probes = (ollama_url, vllm_url)
        self._clock = clock
        self._catalogue = Catalogue(config, environ)
        self._carriers = Carriers()
        self._dispatch = Dispatch(
            self._catalogue,
            config.pool,
            self.warm,
            carriers=self._carriers,
            sleep=sleep,
            random=random,
            clock=clock,
        )
        self._kept = open_database()
        self.cache = AnswerCache(
            open_store(config.cache, self._kept) if config.cache.enabled else None
        )
        self.semantic = open_semantic(config.cache, self._kept, self._catalogue)
        self.costs = Costs(config.costs)
        self.prepared = False
        """Whether what the models need has been imported: aiohttp, and litellm for some."""
        self._warming: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------- what there is

    @property
    def ready(self) -> bool:
        """Whether litellm has been imported."""
        return self._carriers.ready

    async def prepare(self) -> None:
        """Look for servers on this machine, and import what the models that are there need.

        litellm takes two seconds of the processor and 130 MB, which most need not. Never raises.
        """
        await self.look_around()
        able = self._catalogue.able
        members = (each for model in self._catalogue.there() for each in able(model.name))
        if await self._carriers.load_light(members, self.embedding):
            await self.warm()
        self.prepared = True

    async def warm(self) -> None:
        """Import litellm in a thread and look for servers on this machine. Never raises."""
        if self._warming is None:
            self._warming = asyncio.create_task(self._warm())
        await asyncio.shield(self._warming)

    async def look_around(self) -> None:
        """Look for model servers on this machine, and ask configured ones for their windows, once.

        The defaults are right afterwards. Takes a moment, unlike litellm's import. Never raises.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._find_local())
        await asyncio.shield(self._looking)

    def list(self) -> list[ModelInfo]:
        """The models there are, the preferred ones first, and how their deployments are now."""
        return [
            info_of(model, self._catalogue, self._dispatch.groups.get(model.name), self._clock())
            for model in self._catalogue.there()
        ]

    async def examine(self) -> Infos:
        """Look for servers, ask those that tell it how they are, and list all models."""
        await self.look_around()
        for model in self._catalogue.there():
            self._dispatch.know(model)
        servers = [server for group in self._dispatch.groups.values() for server in group.servers]
        await asyncio.gather(*(check(s, self._clock) for s in servers if checkable(s)))
        return self.list()

    @property
    def root(self) -> str:
        """Name of the model that questions go to: configured, else the best that is found."""
        return self._catalogue.root

    @property
    def sub(self) -> str:
        """Name of the model that sub-calls go to."""
        return self._catalogue.sub

    @property
    def embedding(self) -> str | None:
        """Name of the model that compares questions, where one is configured."""
        return self._catalogue.embedding

    def resolve(self, name: str | None, *, default: str) -> str:
        """The name of the model that is meant. Raises UnknownModelError, which names them all."""
        return self._catalogue.find(name or default).name

    def model_id(self, name: str) -> str:
        """Litellm's id of a model, by which its family is known."""
        return self._catalogue.find(name).model

    def check(self, name: str) -> None:
        """See that a run could use this model: UnknownModelError or NoKeyError if not."""
        self._catalogue.check_key(self._catalogue.find(name))

    def keys_wanted(self) -> KeysWanted:
        """The models whose key a client may have."""
        return self._catalogue.keys_wanted()

    def add_keys(self, keys: Mapping[str, str]) -> Names:
        """Keep keys, by the name of the model; returns the names that now have one."""
        return self._catalogue.add_keys(keys)

    # ----------------------------------------------------------------------------------- costs

    def free(self, name: str) -> bool:
        """Whether calls to it cost no money."""
        return self.price(name) == (0.0, 0.0)

    def price(self, name: str, prompt_tokens: int = 0) -> tuple[float | None, float | None]:
        """US dollars for a million tokens of prompt and of completion; None: unknown.

        At most: the highest of whatever may answer a prompt of so many tokens, fallbacks included.
        """
        names = (name, *self._catalogue.find(name).settings.fallbacks)
        may_answer = [d for each in names for d in self._catalogue.able(each)]
        prices = (price_of(deployment).at(prompt_tokens) for deployment in may_answer)
        prompt, completion = highest(prices).per_million()
        return prompt, 0.0 if completion is None and name == self.embedding else completion

    def cost(self, name: str, usage: Usage) -> float | None:
        """US dollars for what was used, by the model's prices; None: unknown."""
        prices = (price_of(each).at(usage.prompt_tokens) for each in self._catalogue.able(name))
        return highest(prices).of(usage)

    def window(self, name: str) -> int | None:
        """The context window in tokens, of the least of the deployments; None: unknown."""
        return self._catalogue.window(name)

    # ----------------------------------------------------------------------------------- calls

    async def complete(
        self,
        name: str,
        messages: Sequence[Message],
        *,
        listener: Listener | None = None,
        max_tokens: int | None = None,
        priority: Priority | None = None,
        account: Account | None = None,
        fate: Fate | None = None,
    ) -> Completion:
        """Ask a model; with a listener, the reply is streamed to it.

        For an account, an answer that is kept is taken instead; its ``cached`` says so. Waits for
        a free slot of one of the model's deployments, and tries again, elsewhere, or with the
        model's fallbacks where that helps. ``priority`` is that of somebody watching where there
        is a listener, else that of a sub-call. ``fate`` is told what was used beside the reply.
        Raises ModelError. Cancelling closes the connection.
        """
        if priority is None:
            priority = Priority.SUBCALL if listener is None else Priority.WATCHED
        fate = fate or Fate()
        model = self._catalogue.find(name)

        async def ask(listener: Listener | None, fate: Fate) -> Completion:
            return await self._complete(name, Ask(messages, listener, max_tokens, priority, fate))

        if account is None or model.provider == "offline":
            return await ask(listener, fate)

        async def pay(listener: Listener | None, fate: Fate) -> Completion:
            with self.costs.room(account, at_most(partial(self.price, name), messages, max_tokens)):
                try:
                    completion = await ask(listener, fate)
                finally:
                    if fate.lost:
                        self.charge(name, fate.lost, account)
            self.costs.record(account, completion)
            return completion

        completion = await self.cache.complete(
            model,
            messages,
            max_tokens=max_tokens,
            listener=listener,
            account=account,
            ask=pay,
            fate=fate,
        )
        if completion.cached:
            self.costs.record(account, completion)
        return completion

    async def embed(self, text: str, *, account: Account | None = None) -> Embedding:
        """The vector of a text by the configured embedding model. Raises ModelError.

        It takes a slot like any call, that of somebody watching: a question waits for it.
        """
        name = self._catalogue.embedding
        assert name is not None, "the semantic cache is only there where a model is named"
        messages: list[Message] = [{"role": "user", "content": text}]
        worst = at_most(partial(self.price, name), messages, 1)
        with self.costs.room(account, worst) if account else nullcontext():
            ask = Ask(messages, None, None, Priority.WATCHED)
            vector, deployment = await self._dispatch.vector(name, ask)
        usage = usage_of_vector(deployment, text, vector)
        if account:
            done = Completion(text="", usage=usage, model=name, seconds=0.0)
            self.costs.record(account, done)
        return Embedding(numbers=vector.numbers, usage=usage)

    def charge(self, name: str, usage: Usage, account: Account) -> None:
        """Note what a call that broke off is likely to have cost."""
        if self._catalogue.find(name).provider != "offline":
            broken = Completion(text="", usage=usage, model=name, seconds=0.0)
            self.costs.record(account, broken)

    async def _complete(self, name: str, ask: Ask) -> Completion:
        started = self._clock()
        reply, deployment = await self._dispatch.reply(name, ask)
        seconds = self._clock() - started
        return completion_of(deployment, ask.messages, reply, seconds, hedged=ask.hedged)

    async def flush(self) -> None:
        """Have what was paid and kept so far on disk, where other servers find it; soon, or never.

        Writes are gathered otherwise. One that another process keeps waiting is not waited for.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await asyncio.to_thread(self._kept.flush)
                await asyncio.to_thread(self.costs.flush)

    async def close(self) -> None:
        """Close all connections. A thread that is still importing litellm is not waited for."""
        tasks = [task for task in (self._warming, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dispatch.close()
        await self.cache.close()
        await asyncio.to_thread(self._kept.close)
        await asyncio.to_thread(self.costs.close)

    def identity(self, name: str) -> bytes:
        """What decides its answers beside what it is asked: models of one identity are the same."""
        return request_key(self._catalogue.find(name), [], None)

    async def _warm(self) -> None:
        await asyncio.gather(self._carriers.load(), self.look_around())

    async def _find_local(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            windows = tasks.create_task(discovery.windows(self._catalogue.configured))
            if self._discover:
                self._catalogue.add_local(await discovery.discover(*self._probes))
        self._catalogue.learn_windows(windows.result())
