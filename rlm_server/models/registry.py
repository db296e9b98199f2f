"""``Models``: all that the engine sees of models."""

from __future__ import annotations

import asyncio
import os
import random as chance
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from rlm_server.config import Config
from rlm_server.errors import ModelError
from rlm_server.models import discovery
from rlm_server.models.calls import (
    Completion,
    Listener,
    Message,
    Part,
    Reply,
    Request,
    Transport,
    estimated_tokens,
)
from rlm_server.models.catalogue import Catalogue
from rlm_server.models.deployments import Deployment
from rlm_server.models.litellm_transport import LitellmTransport
from rlm_server.models.offline import OfflineTransport
from rlm_server.models.prices import MILLION, price_of, window_of
from rlm_server.models.retry import gave_up, pause
from rlm_server.protocol import KeyWanted, ModelInfo, Usage

KeysWanted = list[KeyWanted]
Names = list[str]


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
    ) -> None:
        """Take what is configured, and with ``discover`` set what keys there are.

        Raises ConfigError for a model that can't be used as it is configured.
        """
        self._discover = config.discover
        self._probes = (ollama_url, vllm_url)
        self._sleep = sleep
        self._random = random
        self._catalogue = Catalogue(config, environ)
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._litellm = LitellmTransport()
        self._offline = OfflineTransport()
        self._warming: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._import_failure = ""

    # ------------------------------------------------------------------------- what there is

    @property
    def ready(self) -> bool:
        """Whether litellm has been imported."""
        return self._litellm.ready

    async def warm(self) -> None:
        """Import litellm in a thread and look for servers on this machine. Never raises."""
        if self._warming is None:
            self._warming = asyncio.create_task(self._warm())
        await asyncio.shield(self._warming)

    async def look_around(self) -> None:
        """Look for model servers on this machine, once; the defaults are right afterwards.

        Takes a moment, unlike the import of litellm. Never raises.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._find_local())
        await asyncio.shield(self._looking)

    def list(self) -> list[ModelInfo]:
        """The models there are, the preferred ones first."""
        return [self._info(deployment) for deployment in self._catalogue.there()]

    @property
    def root(self) -> str:
        """Name of the model that questions go to: configured, else the best that is found."""
        return self._catalogue.root

    @property
    def sub(self) -> str:
        """Name of the model that sub-calls go to."""
        return self._catalogue.sub

    def resolve(self, name: str | None, *, default: str) -> str:
        """The name of the deployment that is meant: a known one, or a litellm id.

        Raises UnknownModelError, which lists those that are configured.
        """
        return self._catalogue.find(name or default).name

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

    def price(self, name: str) -> tuple[float | None, float | None]:
        """US dollars for a million tokens of prompt and of completion; None: unknown."""
        price = price_of(self._catalogue.find(name))
        return _per_million(price.input), _per_million(price.output)

    def cost(self, name: str, usage: Usage) -> float | None:
        """US dollars for what was used, by the model's prices; None: unknown."""
        return price_of(self._catalogue.find(name)).of(usage)

    def window(self, name: str) -> int | None:
        """The context window in tokens; None: unknown."""
        return window_of(self._catalogue.find(name))

    # ----------------------------------------------------------------------------------- calls

    async def complete(
        self,
        name: str,
        messages: Sequence[Message],
        *,
        listener: Listener | None = None,
        max_tokens: int | None = None,
    ) -> Completion:
        """Ask a model; with a listener, the reply is streamed to it.

        Waits for a free slot of the deployment, and tries again where that helps. Raises
        ModelError. Cancelling closes the connection.
        """
        started = time.monotonic()
        deployment = self._catalogue.find(name)
        self._catalogue.check_key(deployment)
        transport = await self._transport(deployment)
        request = Request(
            deployment=deployment,
            key=self._catalogue.key(deployment),
            messages=messages,
            delta=None,
            max_tokens=max_tokens,
        )
        async with self._slot(deployment):
            reply = await self._persist(transport, request, listener)
        return Completion(
            text=reply.text,
            usage=self._usage(deployment, messages, reply),
            model=deployment.name,
            seconds=time.monotonic() - started,
        )

    async def close(self) -> None:
        """Close all connections. A thread that is still importing litellm is not waited for."""
        tasks = [task for task in (self._warming, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._litellm.close()

    async def _persist(
        self, transport: Transport, request: Request, listener: Listener | None
    ) -> Reply:
        """Try until there is a reply, or another try would not help."""
        tries = 0
        while True:
            tries += 1
            stream = _Stream(listener)
            request.delta = stream.delta if listener else None
            try:
                return await transport.send(request)
            except ModelError as error:
                retries = request.deployment.settings.retries
                seconds = pause(error, tries, retries, self._random)
                if seconds is None:
                    raise gave_up(error, tries) from None
                if listener and stream.begun:
                    listener.restarted(error.message.rstrip("."))
                elif listener:
                    listener.notice(f"{error.message} Trying again in {seconds:.1f} s.")
            await self._sleep(seconds)

    async def _transport(self, deployment: Deployment) -> Transport:
        if deployment.provider == "offline":
            return self._offline
        await self.warm()
        if not self.ready:
            raise ModelError(
                f"litellm can't be imported: {self._import_failure}.",
                cure="Install rlm-server anew.",
            )
        return self._litellm

    async def _warm(self) -> None:
        await asyncio.gather(self._import(), self.look_around())

    async def _find_local(self) -> None:
        if self._discover:
            self._catalogue.add_local(await discovery.discover(*self._probes))

    async def _import(self) -> None:
        try:
            await self._litellm.load()
        except Exception as error:  # whatever a broken installation raises
            self._import_failure = f"{type(error).__name__}: {error}"

    def _slot(self, deployment: Deployment) -> asyncio.Semaphore:
        if deployment.name not in self._slots:
            self._slots[deployment.name] = asyncio.Semaphore(deployment.settings.slots)
        return self._slots[deployment.name]

    # ----------------------------------------------------------------------------- what is told

    def _info(self, deployment: Deployment) -> ModelInfo:
        input_price, output_price = self.price(deployment.name)
        return ModelInfo(
            name=deployment.name,
            model=deployment.model,
            provider=deployment.provider,
            source=deployment.source,
            window=self.window(deployment.name),
            input_price=input_price,
            output_price=output_price,
            key=self._catalogue.key_state(deployment),
        )

    def _usage(self, deployment: Deployment, messages: Sequence[Message], reply: Reply) -> Usage:
        """What the call used; tokens are estimated where the provider didn't count them."""
        prompt, completion = reply.prompt_tokens, reply.completion_tokens
        if prompt is None:
            prompt = estimated_tokens(sum(len(message["content"]) for message in messages))
        if completion is None:
            completion = estimated_tokens(len(reply.text))
        usage = Usage(
            prompt_tokens=prompt, completion_tokens=completion, cached_tokens=reply.cached_tokens
        )
        usage.cost = self._paid(deployment, usage, reply.cost)
        return usage

    def _paid(self, deployment: Deployment, usage: Usage, told: float | None) -> float | None:
        """By configured prices, else as the provider told, else by the map."""
        settings = deployment.settings
        stated = settings.input_price is not None or settings.output_price is not None
        if told is not None and not stated and not deployment.free:
            return told
        return self.cost(deployment.name, usage)


class _Stream:
    """Passes the pieces of one try on, and knows whether there were any."""

    def __init__(self, listener: Listener | None) -> None:
        self.begun = False
        self._listener = listener

    def delta(self, part: Part, text: str) -> None:
        self.begun = True
        if self._listener:
            self._listener.delta(part, text)


def _per_million(price: float | None) -> float | None:
    return None if price is None else round(price * MILLION, 9)
