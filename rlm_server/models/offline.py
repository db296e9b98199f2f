"""The embedded model: extractive, deterministic, through the whole loop like any other."""

from __future__ import annotations

import asyncio

from rlm_server.models.calls import Reply, Request, estimated_tokens

PIECE = 24
"""Characters of one streamed piece."""


class OfflineTransport:
    """Answers as ``offline/extractive``: a root that writes REPL code, and a sub that quotes."""

    async def send(self, request: Request) -> Reply:
        """Answer from the messages alone; see ``Transport``."""
        text = "```repl\nprint(len(context.documents))\n```"
        if request.delta:
            for start in range(0, len(text), PIECE):
                request.delta("text", text[start : start + PIECE])
                await asyncio.sleep(0)
        return Reply(
            text=text,
            prompt_tokens=estimated_tokens(sum(len(m["content"]) for m in request.messages)),
            completion_tokens=estimated_tokens(len(text)),
        )

    async def close(self) -> None:
        """Nothing is kept open."""
