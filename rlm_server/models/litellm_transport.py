"""Carries calls to providers through litellm: the only module that knows it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import threading
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

from rlm_server.models.calls import Reply, Request, Vector
from rlm_server.models.faults import BAD_REQUEST, BROKEN, GARBLED, tell, translate
from rlm_server.models.prefixes import marked, wants_marks
from rlm_server.models.replies import checked, one_try, pass_on, secrets_of, text_of

ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches its price map at import
    "LITELLM_MODE": "PRODUCTION",  # else it reads a .env file into the environment
    "AIOHTTP_CONNECTOR_LIMIT": "4000",  # 0 would mean 100
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "4000",
    "REPEATED_STREAMING_CHUNK_LIMIT": "100000",  # else 100 equal pieces end a stream
}
"""What litellm reads from the environment when it is imported."""

SILENT = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore")
"""Loggers that would tell of prompts, headers with keys in them and addresses, some on stdout."""

NO_KEY = "none"
"""Sent where no key is needed: given no key at all, litellm would look for one by itself."""

T = TypeVar("T")

_importing = threading.Lock()
_loaded: list[Any] = []


def load() -> Any:
    """Import litellm and make it ready for calls. Takes seconds: call it in a thread."""
    with _importing:
        if _loaded:
            return _loaded[0]
        os.environ.update(ENVIRONMENT)
        for name in SILENT:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        collecting = gc.isenabled()
        gc.disable()  # thousands of modules make garbage collection a fifth of the import
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                litellm: Any = importlib.import_module("litellm")
                _quieten(litellm)
                _ask_no_ollama()
                _loaded.append(litellm)
                with contextlib.suppress(Exception):
                    asyncio.run(_rehearse(litellm))
        finally:
            gc.freeze()  # nor should later collections go through them again: 0.2 s each
            if collecting:
                gc.enable()
        return litellm


def _quieten(litellm: Any) -> None:
    """Set what is global in litellm: no advice on stdout, no parameters that a model refuses."""
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    litellm.telemetry = False
    litellm.turn_off_message_logging = True


def _ask_no_ollama() -> None:
    """Let litellm take all models of Ollama for unknown and free.

    It would ask the server, about whatever model a reply names, blocking the event loop meanwhile.
    """
    module = importlib.import_module("litellm.llms.ollama.common_utils")

    def unknown(_: Any, model: str, **__: Any) -> dict[str, Any]:
        return {
            "key": model,
            "litellm_provider": "ollama_chat",
            "mode": "chat",
            "input_cost_per_token": 0.0,
            "output_cost_per_token": 0.0,
            "max_tokens": None,
            "max_input_tokens": None,
            "max_output_tokens": None,
        }

    module.OllamaModelInfo.get_runtime_model_info = unknown


async def _rehearse(litellm: Any) -> None:
    """Go through the motions of a call, without a network.

    litellm imports another 500 modules and builds its types at its first calls, which would
    block the event loop for most of a second.
    """
    import openai

    openai.AsyncOpenAI(api_key=NO_KEY).chat.completions.with_raw_response  # noqa: B018
    for stream in (False, True):
        reply = await litellm.acompletion(
            model="openai/gpt-4.1",
            api_key=NO_KEY,
            messages=[{"role": "user", "content": "."}],
            mock_response=".",
            stream=stream,
        )
        if stream:
            async for _ in reply:
                pass
    await _stop_worker()


async def _stop_worker() -> None:
    """Stop the task that litellm logs calls in, so that its loop may end."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    await GLOBAL_LOGGING_WORKER.stop()


class LitellmTransport:
    """One try at a call, through ``litellm.acompletion``."""

    def __init__(self) -> None:
        self._litellm: Any = None

    @property
    def ready(self) -> bool:
        """Whether litellm has been imported."""
        return self._litellm is not None

    async def load(self) -> None:
        """Import litellm in a thread. Raises whatever its import raises."""
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load)

    async def send(self, request: Request) -> Reply:
        """Ask once; see ``Transport``."""
        return await self._try(self._send(request), request)

    async def embed(self, request: Request) -> Vector:
        """Get one vector; see ``Transport``."""
        return await self._try(self._embed(request), request)

    async def _try(self, work: Coroutine[Any, Any, T], request: Request) -> T:
        secrets = secrets_of(request)
        return await one_try(
            work,
            request.deployment,
            expected=Exception,  # litellm's exceptions have no common base
            translate=lambda error: translate(error, request.deployment, secrets=secrets),
        )

    async def close(self) -> None:
        """Close litellm's kept connections and its worker."""
        if self._litellm is None:
            return
        with contextlib.suppress(Exception):
            await _stop_worker()
        with contextlib.suppress(Exception):
            await self._litellm.close_litellm_async_clients()
            self._litellm.in_memory_llm_clients_cache.flush_cache()
        with contextlib.suppress(Exception):
            # Ollama's embeddings go through this one, which litellm does not close; it reopens.
            await self._litellm.module_level_aclient.client._transport.aclose()

    async def _send(self, request: Request) -> Reply:
        arguments = _arguments(request)
        if request.delta:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        response = await self._litellm.acompletion(**arguments)
        if response is None:  # what it makes of a 422 from a server that speaks as OpenAI does
            raise tell(BAD_REQUEST, request.deployment, detail="422, a parameter is not known")
        if not request.delta:
            return _whole(response, request)
        try:
            return await _streamed(response, request)
        finally:
            # A stream that nobody reads to its end keeps the model generating.
            with contextlib.suppress(Exception):
                await response.aclose()

    async def _embed(self, request: Request) -> Vector:
        deployment = request.deployment
        arguments = deployment.settings.params | _common(request)
        # As a chat model it is asked through another of Ollama's addresses.
        arguments["model"] = deployment.model.replace("ollama_chat/", "ollama/", 1)
        arguments["input"] = [request.messages[0]["content"]]
        if deployment.provider != "ollama_chat":
            arguments["encoding_format"] = "float"
        response = await self._litellm.aembedding(**arguments)
        numbers: list[float] = []
        with contextlib.suppress(LookupError, TypeError, ValueError):
            numbers = [float(number) for number in response.data[0]["embedding"]]
        if not numbers:
            raise tell(GARBLED, deployment, detail="a reply without a vector")
        tokens = getattr(getattr(response, "usage", None), "prompt_tokens", None)
        return Vector(numbers=numbers, prompt_tokens=tokens or None)


def _arguments(request: Request) -> dict[str, Any]:
    deployment = request.deployment
    # What is streamed is a conversation, of which the next request will repeat all.
    marks = request.delta is not None and wants_marks(deployment)
    arguments = deployment.params | _common(request)
    arguments["messages"] = marked(request.messages) if marks else list(request.messages)
    if request.max_tokens is not None:
        arguments["max_tokens"] = request.max_tokens
    return arguments


def _common(request: Request) -> dict[str, Any]:
    """The arguments that every call of a deployment has."""
    settings = request.deployment.settings
    arguments: dict[str, Any] = {
        "model": request.deployment.model,
        "api_key": request.key.reveal() if request.key else NO_KEY,
        "timeout": settings.timeout,
        "max_retries": 0,
    }
    if settings.base_url:
        arguments["api_base"] = settings.base_url
    if settings.headers:
        arguments["extra_headers"] = settings.headers
    return arguments


def _whole(response: Any, request: Request) -> Reply:
    choices = getattr(response, "choices", None)
    if not choices:
        raise tell(GARBLED, request.deployment, detail="a reply without choices")
    text = text_of(choices[0].message.content)
    return _reply(text, choices[0].finish_reason, response, request)


async def _streamed(stream: Any, request: Request) -> Reply:
    parts: list[str] = []
    usage: Any = None
    finish: str | None = None
    async for chunk in stream:
        usage = chunk if getattr(chunk, "usage", None) else usage
        for choice in chunk.choices[:1]:
            finish = choice.finish_reason or finish
            pass_on(request, "reasoning", text_of(getattr(choice.delta, "reasoning_content", None)))
            text = text_of(choice.delta.content)
            pass_on(request, "text", text)
            parts.append(text)
    if finish is None:
        raise tell(BROKEN, request.deployment, detail="the stream ended before its end was told")
    return _reply("".join(parts), finish, usage, request)


def _reply(text: str, finish: str | None, response: Any, request: Request) -> Reply:
    """The reply, unless there is nothing in it."""
    usage = getattr(response, "usage", None)
    if not usage:
        return checked(Reply(text=text), finish, request)
    details = getattr(usage, "prompt_tokens_details", None)
    reply = Reply(
        text=text,
        prompt_tokens=usage.prompt_tokens or None,  # it says 0 where it was told nothing
        completion_tokens=usage.completion_tokens or None,
        cached_tokens=getattr(details, "cached_tokens", None) or 0,
        written_tokens=getattr(usage, "cache_creation_input_tokens", None) or 0,
        cost=getattr(usage, "cost", None),
    )
    return checked(reply, finish, request)
