"""Whole questions that were asked before: finding their answers, and keeping new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rlm_server.context.corpus import Corpus
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.ledger import LimitReached
from rlm_server.engine.prompt import prompt_file
from rlm_server.errors import RlmError
from rlm_server.models import Models
from rlm_server.models.cache.semantic import Embed, Similar
from rlm_server.protocol import AskParams, Notice, SemanticHit


class Question:
    """The question of one run, where the semantic cache is enabled; else nothing is done."""

    def __init__(
        self,
        params: AskParams,
        models: Models,
        emitter: Emitter,
        names: Sequence[str],
        depth: int,
        system: str,
        tools: str,
        embed: Embed,
    ) -> None:
        """``names`` are all models that the run may ask, in the order of their roles.

        ``system`` is the system prompt of the root model, ``tools`` says which tools it has.
        ``embed`` makes vectors on the run's account; it raises ModelError or LimitReached.
        """
        self._embed = embed
        options = params.options
        self._text = params.question
        self._cache = models.semantic if not options.no_cache else None
        self._fresh = options.fresh
        self._emitter = emitter
        # Limits are left out: a finished answer is as good as one found with less.
        decisive = [system, prompt_file("sub"), str(depth), str(options.schema), tools]
        self._asked = b"".join(
            [models.identity(name) for name in names]
            + [hashlib.sha256(text.encode()).digest() for text in decisive]
            if self._cache
            else []
        )

    async def find(self, corpus: Corpus) -> Similar | None:
        """The kept answer to a similar question about the same text; told as an event."""
        if self._cache is None or self._fresh:
            return None
        try:
            similar = await self._cache.find(self._scope(corpus), self._text, self._embed)
        except (RlmError, LimitReached) as error:
            self._tell(f"Similar questions can't be looked for. {error}")
            return None
        if similar:
            self._emitter.emit(
                SemanticHit,
                original_question=similar.question,
                original_run_id=similar.run_id,
                original_time=similar.created,
                similarity=similar.similarity,
            )
        return similar

    async def keep(self, corpus: Corpus, answer: str) -> None:
        """Keep a finished answer."""
        if self._cache is None or not answer.strip():
            return
        try:
            run_id = self._emitter.run_id
            await self._cache.keep(self._scope(corpus), self._text, answer, run_id, self._embed)
        except (RlmError, LimitReached) as error:
            self._tell(f"The answer is not kept for similar questions. {error}")

    def _scope(self, corpus: Corpus) -> bytes:
        return hashlib.sha256(self._asked + corpus.hash.encode()).digest()

    def _tell(self, text: str) -> None:
        self._emitter.emit(Notice, level="warning", text=text)
