"""What a call has used and cost, by what the provider told, the configuration and the price map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from rlm_server.models.calls import (
    Completion,
    Message,
    Reply,
    Vector,
    estimated_tokens,
    most_tokens,
)
from rlm_server.models.deployments import Deployment
from rlm_server.models.prices import MILLION, price_of
from rlm_server.protocol import Usage

LONGEST_ANSWER = 8192
"""Tokens for which the month's limit must have room where a call has no bound of its own."""


MOST_TOKENS = 10**9
"""Of one call; a server that tells of more is wrong."""


def at_most(
    price: Callable[[int], tuple[float | None, float | None]],
    messages: Sequence[Message],
    max_tokens: int | None,
) -> float | None:
    """US dollars that a call costs at most, as far as one can know; None: unknown price.

    ``price`` gives, by the tokens of a prompt, that of a million tokens of prompt and completion.
    """
    asked = most_tokens(message["content"] for message in messages)
    prompt, completion = price(asked)
    if prompt is None or completion is None:
        return None
    return (asked * prompt + (max_tokens or LONGEST_ANSWER) * completion) / MILLION


def completion_of(
    deployment: Deployment,
    messages: Sequence[Message],
    reply: Reply,
    seconds: float,
    *,
    hedged: bool,
) -> Completion:
    """A deployment's reply to messages, which took so long, with what it used."""
    return Completion(
        text=reply.text,
        usage=usage_of(deployment, messages, reply),
        model=deployment.model_name or deployment.name,
        deployment=deployment,
        seconds=seconds,
        hedged=hedged,
    )


def usage_of(deployment: Deployment, messages: Sequence[Message], reply: Reply) -> Usage:
    """What a call used; tokens are estimated where the provider didn't count them."""
    prompt, completion = reply.prompt_tokens, reply.completion_tokens
    if prompt is None:
        prompt = estimated_tokens(sum(len(message["content"]) for message in messages))
    if completion is None:
        completion = estimated_tokens(len(reply.text))
    usage = Usage(prompt_tokens=_sane(prompt), completion_tokens=_sane(completion))
    usage.cached_tokens = min(_sane(reply.cached_tokens), usage.prompt_tokens)
    usage.cost = _paid(deployment, usage, reply)
    return usage


def usage_of_vector(deployment: Deployment, text: str, vector: Vector) -> Usage:
    """What a vector has used: nothing was written, whatever writing would cost."""
    tokens = vector.prompt_tokens
    usage = Usage(prompt_tokens=estimated_tokens(len(text)) if tokens is None else _sane(tokens))
    price = price_of(deployment)
    usage.cost = msgspec.structs.replace(price, output=price.output or 0.0).of(usage)
    return usage


def _paid(deployment: Deployment, usage: Usage, reply: Reply) -> float | None:
    """By configured prices, else as the provider told, else by the map."""
    settings = deployment.settings
    stated = settings.input_price is not None or settings.output_price is not None
    told = reply.cost is not None and 0 <= reply.cost < math.inf
    if told and not stated and not deployment.free:
        return reply.cost
    written = min(_sane(reply.written_tokens), usage.prompt_tokens)
    return price_of(deployment).of(usage, written=written, when=datetime.now(UTC))


def _sane(tokens: int) -> int:
    """A number of tokens that can be; less than none would give a run its budget back."""
    return min(max(0, tokens), MOST_TOKENS)
