"""Finding model servers on this machine: one short question to Ollama's and vLLM's ports."""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from rlm_server.config import ModelConfig
from rlm_server.models.deployments import Deployment

T = TypeVar("T")

OLLAMA_URL = "http://127.0.0.1:11434"
VLLM_URL = "http://127.0.0.1:8000"

PATIENCE = 1.0
"""Seconds that a probe may take; a server on this machine that is awake needs a few ms."""

LONGEST_REPLY = 4 << 20
"""Bytes; whatever says more is no model server."""


LENGTH = re.compile(rb"^content-length: *(\d{1,9})\r", re.IGNORECASE | re.MULTILINE)


async def discover(ollama_url: str = OLLAMA_URL, vllm_url: str = VLLM_URL) -> list[Deployment]:
    """The models of the servers that answer; never raises."""
    found = await asyncio.gather(_ollama(ollama_url), _vllm(vllm_url))
    return [deployment for deployments in found for deployment in deployments]


class _OllamaModel(msgspec.Struct):
    name: str


class _OllamaTags(msgspec.Struct):
    models: list[_OllamaModel] = []


class _VllmModel(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _VllmModels(msgspec.Struct):
    data: list[_VllmModel] = []


async def _ollama(url: str) -> list[Deployment]:
    tags = await _ask(f"{url}/api/tags", _OllamaTags)
    return [
        _local(f"ollama_chat/{model.name}", base_url=url)
        for model in (tags.models if tags else [])
        if "embed" not in model.name
    ]


async def _vllm(url: str) -> list[Deployment]:
    models = await _ask(f"{url}/v1/models", _VllmModels)
    return [
        _local(f"hosted_vllm/{model.id}", base_url=f"{url}/v1", window=model.max_model_len)
        for model in (models.data if models else [])
    ]


def _local(model: str, *, base_url: str, window: int | None = None) -> Deployment:
    settings = ModelConfig(model=model, base_url=base_url, window=window)
    return Deployment(name=model, settings=settings, source="local")


async def _ask(url: str, kind: type[T]) -> T | None:
    """GET a JSON document; None for anything but the expected answer in good time."""
    try:
        async with asyncio.timeout(PATIENCE):
            return msgspec.json.decode(await _get(url), type=kind)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        return None


async def _get(url: str) -> bytes:
    """The body of a small answer over plain HTTP/1.0, which never comes in chunks."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200" not in head.split(b"\r\n", 1)[0]:
            raise ValueError("not answered with 200")
        return await _body(reader, LENGTH.search(head))
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, length: re.Match[bytes] | None) -> bytes:
    """The body: as long as was told, else to the end of the connection."""
    left = min(int(length[1]) if length else LONGEST_REPLY, LONGEST_REPLY)
    body = b""
    while left > len(body) and (data := await reader.read(left - len(body))):
        body += data
    return body
