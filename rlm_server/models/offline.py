"""The embedded model: extractive and deterministic, through the whole loop like any other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from rlm_server.errors import ModelError
from rlm_server.models import offline_cells as cells
from rlm_server.models.calls import Message, Reply, Request, Vector, estimated_tokens
from rlm_server.models.question import read_question
from rlm_server.models.quoting import quote

PIECE = 48
"""Characters of one streamed piece."""

OPENING = re.compile(r"Question: (.*?)\n\nThe context holds ", re.DOTALL)
RANKED = re.compile(r"^\d+ passages?, the best at ", re.MULTILINE)
LAST_CALL = re.compile(r"^You have 1 reply left", re.MULTILINE)
LOST = "All variables of earlier cells are lost"


class OfflineTransport:
    """Answers as ``offline/extractive``: a root that writes REPL code, and a sub that quotes."""

    async def send(self, request: Request) -> Reply:
        """Answer from the messages alone; see ``Transport``."""
        text = await asyncio.to_thread(reply_to, request.messages)
        if request.delta:
            for start in range(0, len(text), PIECE):
                request.delta("text", text[start : start + PIECE])
                await asyncio.sleep(0)
        return Reply(
            text=text,
            prompt_tokens=estimated_tokens(sum(len(m["content"]) for m in request.messages)),
            completion_tokens=estimated_tokens(len(text)),
        )

    async def embed(self, request: Request) -> Vector:
        """Raise ModelError: it compares texts by their words alone."""
        raise ModelError(
            f"{request.deployment.name} makes no vectors.",
            cure="Set embedding-model in [cache] to a model that does, such as ollama/all-minilm.",
        )

    async def close(self) -> None:
        """Nothing is kept open."""


def reply_to(messages: Sequence[Message]) -> str:
    """The next reply of a conversation: a run's root where it begins like one, else a sub."""
    users = [message["content"] for message in messages if message["role"] == "user"]
    opening = OPENING.match(users[0]) if users else None
    if opening is None:
        return quote(users[-1] if users else "")
    own = [message["content"] for message in messages if message["role"] == "assistant"]
    return _next(own[-1] if own else "", users[-1]).reply(read_question(opening[1]))


def _next(previous: str, feedback: str) -> cells.Step:
    """What to do after a step, by what its cells printed."""
    if LAST_CALL.search(feedback) or LOST in feedback:
        return cells.ANSWER if _at(previous, cells.ASK) and LOST not in feedback else cells.AT_ONCE
    if not previous:
        return cells.LOOK
    if _at(previous, cells.LOOK):
        return cells.RANK
    if _at(previous, cells.RANK) or _at(previous, cells.SCAN):
        if RANKED.search(feedback):
            return cells.ASK
        if cells.NO_MATCH in feedback:
            return cells.ANSWER
        return cells.SCAN if _at(previous, cells.RANK) else cells.GIVE_UP
    if _at(previous, cells.ASK):
        return cells.ANSWER
    if _at(previous, cells.ANSWER) or _at(previous, cells.AT_ONCE):
        return cells.GIVE_UP
    return cells.RANK


def _at(reply: str, step: cells.Step) -> bool:
    return reply.startswith(step.prose)
