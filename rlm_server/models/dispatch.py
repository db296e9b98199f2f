"""From the name of a model to an answer: its deployments, the transport of each, its fallbacks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rlm_server.config import PoolConfig
from rlm_server.errors import KeyRefusedError, ModelError
from rlm_server.models.asking import Ask, Asker, Stream, may_fall_back
from rlm_server.models.calls import Part, Reply, Request, Transport, Vector
from rlm_server.models.carriers import Carriers
from rlm_server.models.catalogue import Catalogue
from rlm_server.models.deployments import Deployment
from rlm_server.models.health import Watch
from rlm_server.models.pool import Group
from rlm_server.models.secret import Secret
from rlm_server.models.thoughts import Thoughts

T = TypeVar("T")
Light = Callable[[Deployment], Transport | None]


class Dispatch:
    """Makes calls: each gets a slot, a transport and a key, and goes on elsewhere if it fails."""

    def __init__(
        self,
        catalogue: Catalogue,
        config: PoolConfig,
        warm: Callable[[], Awaitable[None]],
        *,
        carriers: Carriers,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        """``warm`` imports litellm; it is awaited before the first call that needs it."""
        self.groups: dict[str, Group] = {}
        self._catalogue = catalogue
        self._config = config
        self._warm = warm
        self._carriers = carriers
        self._random = random
        self._clock = clock
        self._replies = Asker(self._send, hedge=config.hedge, sleep=sleep, random=random)
        self._vectors = Asker(self._embed, hedge=config.hedge, sleep=sleep, random=random)
        self._watch = Watch(self.groups.values, every=config.health_seconds, clock=clock)

    async def reply(self, name: str, ask: Ask) -> tuple[Reply, Deployment]:
        """Ask a model, then its fallbacks. Raises the error of the first."""
        failures: list[ModelError] = []
        for each in (name, *self._catalogue.find(name).settings.fallbacks):
            if failures:
                Stream(ask.listener).tell(failures[-1], f"Asking {each} instead.")
            try:
                return await self._replies.ask(await self._ready(each, self._carriers.light), ask)
            except ModelError as error:
                failures.append(error)
                if not may_fall_back(error):
                    break
        first, *others = failures
        first.message += "".join(f" Its fallback failed too: {each.message}" for each in others)
        raise first

    async def vector(self, name: str, ask: Ask) -> tuple[Vector, Deployment]:
        """Get the vector of the one message. No fallbacks: vectors of two models don't compare."""
        group = await self._ready(name, self._carriers.light_embedder)
        return await self._vectors.ask(group, ask)

    def know(self, model: Deployment) -> Group:
        """The group of a model, with all deployments that have their keys by now."""
        group = self.groups.get(model.name)
        if group is None:
            group = Group(model.name, self._config, clock=self._clock, random=self._random)
            self.groups[model.name] = group
        for deployment in self._catalogue.able(model.name):
            if not group.has(deployment):
                group.add(deployment)
        return group

    async def close(self) -> None:
        """Stop looking after servers, and close all connections."""
        await self._watch.close()
        for group in self.groups.values():
            group.close()
        await self._carriers.close()

    async def _ready(self, name: str, light: Light) -> Group:
        """The deployments of a model that have their keys, ready to be asked."""
        model = self._catalogue.find(name)
        self._catalogue.check_key(model)
        group = self.know(model)
        members = [server.deployment for server in group.servers]
        if not self._carriers.ready and not all(map(light, members)):
            await self._warm()  # before a slot is taken: it takes seconds
        group.used_at = self._clock()
        self._watch.wake()
        return group

    async def _send(self, deployment: Deployment, ask: Ask, stream: Stream) -> Reply:
        """One try at one deployment."""
        transport = self._carriers.light(deployment) or self._carriers.heavy()
        thoughts = Thoughts(stream.delta)
        delta = thoughts.delta if ask.listener else None
        reply = await self._with_key(
            deployment, lambda key: transport.send(_request(deployment, ask, key, delta))
        )
        thoughts.end()
        return reply

    async def _embed(self, deployment: Deployment, ask: Ask, _: Stream) -> Vector:
        """One try at one vector."""
        transport = self._carriers.light_embedder(deployment) or self._carriers.heavy()
        return await self._with_key(
            deployment, lambda key: transport.embed(_request(deployment, ask, key, None))
        )

    async def _with_key(
        self, deployment: Deployment, call: Callable[[Secret | None], Awaitable[T]]
    ) -> T:
        """Make a call; once more where its key is refused and there is a new one by now."""
        key = await self._catalogue.fetch_key(deployment)
        try:
            return await call(key)
        except KeyRefusedError as error:
            refused = error
        fresh = await self._catalogue.fetch_newer_key(deployment, key)
        if fresh is None:
            raise refused
        return await call(fresh)


def _request(
    deployment: Deployment,
    ask: Ask,
    key: Secret | None,
    delta: Callable[[Part, str], None] | None,
) -> Request:
    return Request(
        deployment=deployment,
        key=key,
        messages=ask.messages,
        delta=delta,
        max_tokens=ask.max_tokens,
    )
