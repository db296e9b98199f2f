"""A run whose root model says its replies in pieces, when the test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from engine_harness import Played
from rlm_server.models import Completion, Listener
from rlm_server.protocol import Usage

Stream = Callable[[Listener], Awaitable[str]]


class Streams:
    """A root model whose replies come in pieces, when the test lets them."""

    def __init__(self, played: Played, streams: Sequence[Stream]) -> None:
        self.asked: list[list[Any]] = []
        self._streams = list(streams)
        self._others = played.models.complete
        played.models.complete = self.complete  # type: ignore[method-assign]

    async def complete(self, name: str, messages: Any, **options: Any) -> Completion:
        if name != "root":
            return await self._others(name, messages, **options)
        self.asked.append(list(messages))
        options["fate"].under_way += 1
        text = await self._streams.pop(0)(options["listener"])
        usage = Usage(prompt_tokens=10, completion_tokens=len(text) // 4, cost=0.0)
        return Completion(text=text, usage=usage, model=name, seconds=0.0)


def whole(text: str) -> Stream:
    async def say(listener: Listener) -> str:
        listener.delta("text", text)
        return text

    return say


def in_two(first: str, between: Callable[[], Awaitable[Any]], second: str) -> Stream:
    async def say(listener: Listener) -> str:
        listener.delta("text", first)
        await between()
        listener.delta("text", second)
        return first + second

    return say


async def stream(played: Played, *streams: Stream) -> Streams:
    models = Streams(played, streams)
    await asyncio.wait_for(played.run.start(), 60)
    return models
