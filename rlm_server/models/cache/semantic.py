"""The semantic cache: the kept answer to a question that means the same, about the same text."""

from __future__ import annotations

import array
import importlib
import importlib.util
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from rlm_server.errors import ConfigError
from rlm_server.models.cache.guard import difference
from rlm_server.models.database import Database

Embed = Callable[[str], Awaitable[Sequence[float]]]
"""Gets the vector of a text. Raises ModelError."""

MOST = 10_000
"""Questions that are kept, all scopes together."""

LONGEST = 2000
"""Characters; of a longer question, embeddings see only the beginning."""


class Similar(msgspec.Struct, kw_only=True):
    """A question that was asked before, and its answer."""

    question: str
    answer: str
    run_id: str
    created: float
    """Seconds since the epoch."""
    similarity: float
    """Cosine; 1.0 for the same words."""


class SemanticCache:
    """Whole questions and their answers. Only within a scope: same context, models and options."""

    def __init__(
        self,
        database: Database,
        *,
        embedder: str,
        threshold: float,
        ttl: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``embedder`` is the model that makes the vectors, ``ttl`` in seconds.

        Raises ConfigError without numpy.
        """
        if importlib.util.find_spec("numpy") is None:
            raise ConfigError(
                "The semantic cache needs numpy, which is not installed.",
                cure="Install rlm-server[semantic], or set semantic = false in [cache].",
            )
        self._database = database
        self._embedder = embedder
        self._threshold = threshold
        self._ttl = ttl
        self._clock = clock
        self._vectors: dict[str, bytes] = {}

    async def find(self, scope: bytes, question: str, embed: Embed) -> Similar | None:
        """The most similar question that the guard lets pass. Raises what ``embed`` raises."""
        if len(question) > LONGEST or not (rows := self._rows(scope)):
            return None
        for row in reversed(rows):
            if _plain(row.question) == _plain(question):
                row.similarity = 1.0
                return row
        vector = await self._vector(question, embed)
        for row, similarity in self._ranked(scope, vector):
            if similarity < self._threshold:
                return None
            if not difference(question, row.question):
                row.similarity = round(similarity, 4)
                return row
        return None

    async def keep(
        self, scope: bytes, question: str, answer: str, run_id: str, embed: Embed
    ) -> None:
        """Keep an answer, in place of an older one to the same words.

        Raises what ``embed`` raises.
        """
        if len(question) > LONGEST:
            return
        vector = await self._vector(question, embed)
        self._vectors.pop(question, None)
        now = self._clock()
        row = (scope, self._embedder, question, answer, run_id, now, vector)
        self._database.write(
            [
                ("DELETE FROM question WHERE scope = ? AND text = ?", (scope, question)),
                ("DELETE FROM question WHERE created < ?", (now - self._ttl,)),
                (
                    "INSERT INTO question (scope, embedder, text, answer, run, created, vector) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                ),
                (
                    "DELETE FROM question WHERE id <= (SELECT max(id) FROM question) - ?",
                    (MOST,),
                ),
            ]
        )

    def _rows(self, scope: bytes) -> list[Similar]:
        """What is kept of a scope, in the order in which it came."""
        query = (
            "SELECT text, answer, run, created FROM question "
            "WHERE scope = ? AND embedder = ? AND created >= ? ORDER BY id"
        )
        return [_similar(row) for row in self._database.read(query, self._young(scope))]

    def _young(self, scope: bytes) -> Sequence[Any]:
        return scope, self._embedder, self._clock() - self._ttl

    def _ranked(self, scope: bytes, vector: bytes) -> list[tuple[Similar, float]]:
        """What is kept, by falling similarity."""
        numpy: Any = importlib.import_module("numpy")
        # Texts and vectors in one look: what is kept changes while a vector is waited for.
        query = (
            "SELECT text, answer, run, created, vector FROM question "
            "WHERE scope = ? AND embedder = ? AND created >= ?"
        )
        pairs = [
            (_similar(row), row[-1])
            for row in self._database.read(query, self._young(scope))
            if len(row[-1]) == len(vector)  # a model of this name may have been another one
        ]
        if not pairs:
            return []
        matrix = numpy.frombuffer(b"".join(each for _, each in pairs), dtype="float32")
        scores = matrix.reshape(len(pairs), -1) @ numpy.frombuffer(vector, dtype="float32")
        ranked = zip((row for row, _ in pairs), map(float, scores), strict=True)
        return sorted(ranked, key=lambda pair: -pair[1])

    async def _vector(self, question: str, embed: Embed) -> bytes:
        """The question's vector, of length one, as 32-bit floats."""
        if question not in self._vectors:
            numbers = await embed(question)
            length = sum(number * number for number in numbers) ** 0.5 or 1.0
            while len(self._vectors) >= 64:  # questions that were never answered
                del self._vectors[next(iter(self._vectors))]
            self._vectors[question] = array.array("f", [n / length for n in numbers]).tobytes()
        return self._vectors[question]


def _similar(row: tuple[Any, ...]) -> Similar:
    text, answer, run, created = row[:4]
    return Similar(question=text, answer=answer, run_id=run, created=created, similarity=0.0)


def _plain(question: str) -> str:
    return re.sub(r"\s+", " ", question).strip()
