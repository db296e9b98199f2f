"""How vectors of texts are asked for over HTTP: as OpenAI's API has it, or Ollama's."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from rlm_server.models.calls import Request, Vector
from rlm_server.models.deployments import Deployment
from rlm_server.models.discovery import OLLAMA_URL
from rlm_server.models.faults import GARBLED, tell


class _Row(msgspec.Struct):
    embedding: list[float]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _OpenAI(msgspec.Struct):
    data: list[_Row]
    usage: _Usage | None = None


class _Ollama(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


def ask_for_vector(request: Request) -> tuple[str, dict[str, Any]]:
    """The address and the body for the vector of the request's one message."""
    deployment = request.deployment
    settings = deployment.settings
    body = {
        "model": deployment.model.partition("/")[2] or deployment.model,
        "input": [request.messages[0]["content"]],
    }
    if deployment.provider == "ollama_chat":
        url = settings.base_url or os.environ.get("OLLAMA_API_BASE") or OLLAMA_URL
        options = {"options": settings.params} if settings.params else {}
        return f"{url.rstrip('/')}/api/embed", {**body, **options}
    url = f"{(settings.base_url or '').rstrip('/')}/embeddings"
    return url, {**body, "encoding_format": "float", **settings.params}


def vector_in(data: bytes, deployment: Deployment) -> Vector:
    """The vector in an answer. Raises ModelError where there is none."""
    try:
        if deployment.provider == "ollama_chat":
            told = msgspec.json.decode(data, type=_Ollama)
            numbers, tokens = told.embeddings[0], told.prompt_eval_count
        else:
            answer = msgspec.json.decode(data, type=_OpenAI)
            numbers = answer.data[0].embedding
            tokens = answer.usage.prompt_tokens if answer.usage else None
    except (msgspec.MsgspecError, ValueError, IndexError, RecursionError):
        numbers = []
    if not numbers:
        raise tell(GARBLED, deployment, detail="a reply without a vector")
    return Vector(numbers=numbers, prompt_tokens=tokens or None)
