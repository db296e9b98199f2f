"""What transports have in common: passing pieces on, and judging a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from rlm_server.errors import ModelError
from rlm_server.models.calls import Part, Reply, Request, estimated_tokens
from rlm_server.models.deployments import Deployment
from rlm_server.models.faults import CUT_OFF, GARBLED, POLICY, SLOW, tell
from rlm_server.models.thoughts import without_thoughts
from rlm_server.models.used import usage_of
from rlm_server.text import clean

T = TypeVar("T")


class ListenerError(Exception):
    """The listener failed, not the model; what it raised goes through as it is."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


async def one_try(
    work: Coroutine[Any, Any, T],
    deployment: Deployment,
    *,
    expected: type[Exception] | tuple[type[Exception], ...],
    translate: Callable[[Exception], ModelError],
) -> T:
    """What ``work`` brings, within the deployment's time-out; all its faults as ModelError.

    Those of the kinds ``expected`` are translated. The listener's own errors go through.
    """
    failure: ModelError
    try:
        async with asyncio.timeout(deployment.settings.timeout):
            return await work
    except TimeoutError:
        failure = tell(SLOW, deployment)
    except (RecursionError, OverflowError):
        failure = tell(GARBLED, deployment)  # made to be more than a parser takes
    except ListenerError as error:
        raise error.cause from None
    except ModelError as error:
        failure = error
    except expected as error:
        failure = translate(error)
    # Raised here, not above: a library's exception holds the request with the key in it.
    raise failure


def pass_on(request: Request, part: Part, text: str) -> None:
    """Hand a streamed piece on. Raises ListenerError."""
    if not text or request.delta is None:
        return
    try:
        request.delta(part, text)
    except Exception as error:
        raise ListenerError(error) from None


def checked(reply: Reply, finish: str | None, request: Request) -> Reply:
    """The reply without the thoughts in it.

    Raises ModelError where nothing else is in it, with what it has used all the same.
    """
    said = without_thoughts(reply.text, begun=request.delta is None)
    if len(said) < len(reply.text) and reply.completion_tokens is None:
        reply.completion_tokens = estimated_tokens(len(reply.text))  # thoughts are paid for
    reply.text = said
    if reply.text.strip():
        return reply
    detail = ""
    fault = {"content_filter": POLICY, "length": CUT_OFF}.get(finish or "")
    if fault is None:
        fault, detail = GARBLED, "an empty reply"
    error = tell(fault, request.deployment, detail=detail)
    error.used = usage_of(request.deployment, request.messages, reply)
    raise error


def text_of(content: object) -> str:
    """A piece of text, fit for every JSON parser; anything else is none."""
    return clean(content) if isinstance(content, str) else ""


def secrets_of(request: Request) -> list[str]:
    """What must not be in a message: the key, and headers and the URL, which may hold another."""
    settings = request.deployment.settings
    key = [request.key.reveal()] if request.key else []
    url = urlsplit(settings.base_url or "")
    in_url = [url.password or "", *(value for _, value in parse_qsl(url.query))]
    return [*key, *settings.headers.values(), *in_url]
