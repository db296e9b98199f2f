"""What carries the calls of each deployment, made ready when it is first needed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from rlm_server.errors import ModelError
from rlm_server.models.calls import Transport
from rlm_server.models.deployments import Deployment
from rlm_server.models.http_transport import HttpTransport, embeds, speaks
from rlm_server.models.litellm_transport import LitellmTransport
from rlm_server.models.offline import OfflineTransport


class Carriers:
    """The transports."""

    def __init__(self) -> None:
        self._litellm = LitellmTransport()
        self._http = HttpTransport()
        self._offline = OfflineTransport()
        self._failure = ""

    @property
    def ready(self) -> bool:
        """Whether litellm has been imported."""
        return self._litellm.ready

    async def load(self) -> None:
        """Import litellm, in a thread; a failure is told by the calls that need it."""
        try:
            await self._litellm.load()
        except Exception as error:  # whatever a broken installation raises
            self._failure = f"{type(error).__name__}: {error}"

    async def load_light(self, deployments: Iterable[Deployment], embedding: str | None) -> bool:
        """Import what these need but litellm; return whether one of them needs that, too."""
        carried = [
            (self.light_embedder if each.name == embedding else self.light)(each)
            for each in deployments
        ]
        if self._http in carried:
            with suppress(ImportError):  # told by the calls that need it
                await self._http.load()
        return None in carried

    def light(self, deployment: Deployment) -> Transport | None:
        """The transport of a deployment that needs no litellm."""
        if deployment.provider == "offline":
            return self._offline
        return self._http if speaks(deployment) else None

    def light_embedder(self, deployment: Deployment) -> Transport | None:
        """The transport that gets a deployment's vectors without litellm."""
        return self._http if embeds(deployment) else self.light(deployment)

    def heavy(self) -> Transport:
        """The transport for all others, after ``load``. Raises ModelError."""
        if not self.ready:
            raise ModelError(
                f"litellm can't be imported: {self._failure}.", cure="Install rlm-server anew."
            )
        return self._litellm

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()
        await self._litellm.close()
