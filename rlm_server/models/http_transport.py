"""Carries calls to OpenAI-compatible servers directly, at a small part of litellm's work."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from rlm_server import __version__, sse
from rlm_server.errors import ModelError
from rlm_server.models.calls import Reply, Request, Vector
from rlm_server.models.deployments import Deployment, is_loopback
from rlm_server.models.faults import BROKEN, CAUSES, GARBLED, GONE, PASSING, Fault, tell
from rlm_server.models.http_vectors import ask_for_vector, vector_in
from rlm_server.models.prices import is_openais
from rlm_server.models.replies import checked, one_try, pass_on, secrets_of, text_of
from rlm_server.models.statuses import refusal

SPOKEN = frozenset({"openai", "hosted_vllm", "lm_studio", "llamafile", "litellm_proxy"})
"""Providers whose servers, at an address of one's own, take exactly what OpenAI's API takes."""

LITELLM_ONLY = frozenset({"allowed_openai_params", "custom_llm_provider", "api_version"})
"""Parameters that are instructions to litellm."""

IDLE = 4.0
"""Seconds that an idle connection is kept: servers such as vLLM's close theirs after 5."""

CONNECTING = 30.0
"""Seconds that a connection may take to come about."""

LONGEST = 64 << 20
"""Bytes of a reply; what is longer is no model's."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    cost: float | None = None


class _Text(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    message: _Text | None = None
    delta: _Text | None = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


T = TypeVar("T")

_decoder = msgspec.json.Decoder(_Body)
_encoder = msgspec.json.Encoder()


def embeds(deployment: Deployment) -> bool:
    """Whether this transport gets the deployment's vectors."""
    return speaks(deployment) or (
        deployment.provider == "ollama_chat" and deployment.settings.transport == "auto"
    )


def speaks(deployment: Deployment) -> bool:
    """Whether this transport carries the deployment's calls."""
    settings = deployment.settings
    if settings.transport != "auto" or not settings.base_url:
        return settings.transport == "http"
    # OpenAI takes different parameters for different models, which litellm knows; and so does a
    # gateway that passes calls on to it.
    openais = urlsplit(settings.base_url).hostname == "api.openai.com" or is_openais(deployment)
    spoken = deployment.provider in SPOKEN and not LITELLM_ONLY & deployment.params.keys()
    return spoken and not openais


class HttpTransport:
    """One try at a call, through aiohttp."""

    def __init__(self) -> None:
        self._aiohttp: Any = None
        self._sessions: dict[bool, Any] = {}

    async def load(self) -> None:
        """Import aiohttp, in a thread."""
        if self._aiohttp is None:
            self._aiohttp = await asyncio.to_thread(__import__, "aiohttp")

    async def send(self, request: Request) -> Reply:
        """Ask once; see ``Transport``."""
        return await self._try(self._send(request), request.deployment)

    async def embed(self, request: Request) -> Vector:
        """Get one vector; see ``Transport``."""
        return await self._try(self._embed(request), request.deployment)

    async def close(self) -> None:
        """Close the kept connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _try(self, work: Coroutine[Any, Any, T], deployment: Deployment) -> T:
        try:
            await self.load()
            expected = (self._aiohttp.ClientError, OSError, ValueError)
            return await one_try(
                work,
                deployment,
                expected=expected,
                translate=lambda error: tell(_fault(error), deployment),
            )
        finally:
            work.close()  # where it was never begun

    async def _send(self, request: Request) -> Reply:
        url = f"{(request.deployment.settings.base_url or '').rstrip('/')}/chat/completions"
        async with self._post(url, _body(request), request) as response:
            if request.delta and response.content_type == "text/event-stream":
                return await _streamed(response.content.iter_any(), request)
            return _whole(await _all(response, request.deployment), request)

    async def _embed(self, request: Request) -> Vector:
        url, body = ask_for_vector(request)
        async with self._post(url, _encoder.encode(body), request) as response:
            return vector_in(await _all(response, request.deployment), request.deployment)

    @asynccontextmanager
    async def _post(self, url: str, body: bytes, request: Request) -> AsyncIterator[Any]:
        """The response to a request, once it is sure to be status 200."""
        call = self._session(url).post(
            url, data=body, headers=_headers(request), allow_redirects=False
        )
        try:
            response = await call
        except self._aiohttp.ConnectionTimeoutError:  # else it would pass for a slow answer
            raise tell(GONE, request.deployment) from None
        async with response:
            if response.status != 200:
                said = await response.content.read(1 << 16)
                secrets = secrets_of(request)
                deployment = request.deployment
                raise refusal(response.status, said, response.headers, deployment, secrets=secrets)
            yield response

    def _session(self, url: str) -> Any:
        """The session for an address: a proxy is for others than this machine."""
        proxied = not is_loopback(url) and any(
            name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ
        )
        if proxied not in self._sessions:
            aiohttp = self._aiohttp
            self._sessions[proxied] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECTING),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=proxied,
            )
        return self._sessions[proxied]


def _headers(request: Request) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": f"rlm/{__version__}"}
    if request.key:
        headers["Authorization"] = f"Bearer {request.key.reveal()}"
    return headers | request.deployment.settings.headers


def _body(request: Request) -> bytes:
    deployment = request.deployment
    params = dict(deployment.params)
    body = {
        "model": deployment.model.partition("/")[2] or deployment.model,
        "messages": request.messages,
        **(params.pop("extra_body", None) or {}),
        **params,
    }
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.delta:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return _encoder.encode(body)


async def _all(response: Any, deployment: Deployment) -> bytes:
    data = bytearray()  # which grows in place, however many pieces there are
    async for more in response.content.iter_any():
        data += more
        if len(data) > LONGEST:
            break
    if len(data) > LONGEST:
        raise _too_long(deployment)
    return bytes(data)


def _too_long(deployment: Deployment) -> ModelError:
    return tell(GARBLED, deployment, detail=f"more than {LONGEST >> 20} MB")


def _whole(data: bytes, request: Request) -> Reply:
    body = _decode(data, request)
    if not body.choices or not body.choices[0].message:
        raise tell(GARBLED, request.deployment, detail="a reply without choices")
    choice = body.choices[0]
    text = text_of(choice.message.content if choice.message else None)
    pass_on(request, "text", text)
    return _reply(text, choice.finish_reason, body.usage, request)


async def _streamed(chunks: AsyncIterator[bytes], request: Request) -> Reply:
    parts: list[str] = []
    usage: _Usage | None = None
    finish: str | None = None
    size = 0
    async for data in sse.events(chunks, longest=LONGEST):
        size += len(data)
        if size > LONGEST:
            raise _too_long(request.deployment)
        if data == b"[DONE]":
            finish = finish or "stop"
            break
        body = _decode(data, request)
        usage = body.usage or usage
        for choice in body.choices[:1]:
            finish = choice.finish_reason or finish
            delta = choice.delta or _Text()
            pass_on(request, "reasoning", text_of(delta.reasoning_content or delta.reasoning))
            text = text_of(delta.content)
            pass_on(request, "text", text)
            parts.append(text)
    if finish is None:
        raise tell(BROKEN, request.deployment, detail="the stream ended before its end was told")
    return _reply("".join(parts), finish, usage, request)


def _decode(data: bytes, request: Request) -> _Body:
    try:
        body = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        try:  # half a character in the text is an error for msgspec, and ours to put right
            body = msgspec.convert(json.loads(data), _Body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise tell(GARBLED, request.deployment) from None
    if body.error:
        # An error under status 200, or in the middle of a stream.
        code = body.error.get("code") if isinstance(body.error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        raise refusal(status, data, {}, request.deployment, secrets=secrets_of(request))
    return body


def _reply(text: str, finish: str | None, usage: _Usage | None, request: Request) -> Reply:
    usage = usage or _Usage()
    details = usage.prompt_tokens_details or _Details()
    reply = Reply(
        text=text,
        prompt_tokens=usage.prompt_tokens or None,
        completion_tokens=usage.completion_tokens or None,
        cached_tokens=details.cached_tokens or usage.prompt_cache_hit_tokens or 0,
        cost=usage.cost,
    )
    return checked(reply, finish, request)


def _fault(error: BaseException) -> Fault:
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((CAUSES[name] for name in names if name in CAUSES), PASSING)
