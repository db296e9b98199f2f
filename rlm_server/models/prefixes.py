"""Marking where a provider's prefix cache should reach, where it wants that to be said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlm_server.models.calls import Message
from rlm_server.models.deployments import Deployment

MARK = {"type": "ephemeral"}


def wants_marks(deployment: Deployment) -> bool:
    """Whether the provider caches only what is marked: Anthropic does, itself or by OpenRouter.

    OpenAI, DeepSeek, Gemini and vLLM cache by themselves whatever begins alike.
    """
    return deployment.model.startswith(("anthropic/", "openrouter/anthropic/"))


def marked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a conversation, with marks after the system prompt and the last two messages.

    The next request repeats all of it and finds the last mark; or, where the last message was long
    and comes again shortened, the one before. What is marked costs a quarter more than other
    tokens when it is written, and a tenth when it is read; so a call that is no conversation,
    whose prompt nobody repeats, gets no marks.
    """
    ends = {number for number, message in enumerate(messages[:1]) if message["role"] == "system"}
    ends |= {len(messages) - 1}
    ends |= {n for n, m in enumerate(messages) if n == len(messages) - 2 and m["role"] != "user"}
    return [
        {**message, "content": [_block(message["content"])]}
        if number in ends and message["content"].strip()  # a mark on nothing is refused
        else dict(message)
        for number, message in enumerate(messages)
    ]


def _block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": MARK}
