"""Short questions to model servers: which are on this machine, and what windows models have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

import msgspec

from rlm_server.config import ModelConfig
from rlm_server.models.deployments import Deployment
from rlm_server.models.short_http import get

T = TypeVar("T")

OLLAMA_URL = "http://127.0.0.1:11434"
VLLM_URL = "http://127.0.0.1:8000"

PATIENCE = 1.0
"""Seconds that a probe may take; a server on this machine that is awake needs a few ms."""


async def discover(ollama_url: str = OLLAMA_URL, vllm_url: str = VLLM_URL) -> list[Deployment]:
    """The models of the servers that answer; never raises."""
    found = await asyncio.gather(_ollama(ollama_url), _vllm(vllm_url))
    return [deployment for deployments in found for deployment in deployments]


async def windows(deployments: Iterable[Deployment]) -> dict[str, int]:
    """The windows that vLLM servers tell, by deployment, where none is configured; never raises."""
    asked = [
        deployment
        for deployment in deployments
        if deployment.provider == "hosted_vllm"
        and deployment.window is None
        and (deployment.settings.base_url or "").startswith("http://")
    ]
    told = await asyncio.gather(*(_served(d.settings.base_url or "") for d in asked))
    return {
        deployment.name: model.max_model_len
        for deployment, models in zip(asked, told, strict=True)
        for model in models
        if model.max_model_len and deployment.model == f"hosted_vllm/{model.id}"
    }


class _OllamaDetails(msgspec.Struct, frozen=True):
    family: str = ""


class _OllamaModel(msgspec.Struct):
    name: str
    details: _OllamaDetails | None = None

    @property
    def chats(self) -> bool:
        """Whether it answers, and is not one that only compares texts, such as all-minilm."""
        family = self.details.family if self.details else ""
        return "embed" not in self.name and "bert" not in family


class _OllamaTags(msgspec.Struct):
    models: list[_OllamaModel] = []


class _VllmModel(msgspec.Struct):
    id: str
    max_model_len: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _VllmModels(msgspec.Struct):
    data: list[_VllmModel] = []


async def _ollama(url: str) -> list[Deployment]:
    tags = await _ask(f"{url}/api/tags", _OllamaTags)
    return [
        _local(f"ollama_chat/{model.name}", base_url=url)
        for model in (tags.models if tags else [])
        if model.chats
    ]


async def _vllm(url: str) -> list[Deployment]:
    return [
        _local(f"hosted_vllm/{model.id}", base_url=f"{url}/v1", window=model.max_model_len)
        for model in await _served(f"{url}/v1")
    ]


async def _served(base_url: str) -> Sequence[_VllmModel]:
    """What a vLLM server says that it serves."""
    models = await _ask(f"{base_url.rstrip('/')}/models", _VllmModels)
    return models.data if models else ()


def _local(model: str, *, base_url: str, window: int | None = None) -> Deployment:
    settings = ModelConfig(model=model, base_url=base_url, window=window)
    return Deployment(name=model, settings=settings, source="local")


async def _ask(url: str, kind: type[T]) -> T | None:
    """GET a JSON document; None for anything but the expected answer in good time."""
    try:
        async with asyncio.timeout(PATIENCE):
            status, body = await get(url)
            return msgspec.json.decode(body, type=kind) if status == 200 else None
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None
