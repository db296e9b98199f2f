"""Embeddings of questions, through litellm: Ollama, vLLM, or any provider with a model for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from rlm_server.errors import ModelError
from rlm_server.models.deployments import Deployment
from rlm_server.models.faults import GARBLED, tell, translate
from rlm_server.models.litellm_transport import NO_KEY, load
from rlm_server.models.secret import Secret


class Embedder(Protocol):
    """Makes vectors that are near each other where texts mean nearly the same."""

    @property
    def name(self) -> str:
        """Which model; vectors of different ones can't be compared."""

    async def embed(self, text: str) -> Sequence[float]:
        """The vector of a text. Raises ModelError."""


class LitellmEmbedder:
    """An ``Embedder`` behind ``litellm.aembedding``."""

    def __init__(
        self, deployment: Deployment, prepare: Callable[[], Awaitable[Secret | None]]
    ) -> None:
        """``prepare`` makes litellm ready and gets the deployment's key; may raise NoKeyError."""
        self._deployment = deployment
        self._prepare = prepare
        # As a chat model it is asked through another of Ollama's addresses.
        self.name = deployment.model.replace("ollama_chat/", "ollama/", 1)

    async def embed(self, text: str) -> Sequence[float]:
        """See ``Embedder``."""
        settings = self._deployment.settings
        key = await self._prepare()
        arguments: dict[str, Any] = {
            **settings.params,
            "model": self.name,
            "input": [text],
            "api_key": key.reveal() if key else NO_KEY,
            "timeout": settings.timeout,
            "max_retries": 0,
        }
        if settings.base_url:
            arguments["api_base"] = settings.base_url
        if settings.headers:
            arguments["extra_headers"] = settings.headers
        if not self.name.startswith("ollama/"):
            arguments["encoding_format"] = "float"
        failure: ModelError
        try:
            litellm = await asyncio.to_thread(load)
            async with asyncio.timeout(settings.timeout):
                response = await litellm.aembedding(**arguments)
            return [float(number) for number in response.data[0]["embedding"]]
        except (LookupError, TypeError, ValueError):
            failure = tell(GARBLED, self._deployment, detail="a reply without a vector")
        except Exception as error:  # litellm's exceptions have no common base
            secrets = [key.reveal()] if key else []
            failure = translate(
                error, self._deployment, secrets=[*secrets, *settings.headers.values()]
            )
        # Raised here, not above: litellm's exception holds the request with the key in it.
        raise failure
