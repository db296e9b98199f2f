"""What models have read of a run's context, and what is said of it with the answer."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from rlm_server.context.corpus import Corpus, Document
from rlm_server.context.part import Part
from rlm_server.engine.prompt import EDGE
from rlm_server.engine.verify import verify
from rlm_server.protocol import Evidence, Held, Location, Position, Range, Stretch
from rlm_server.sandbox import CellResult
from rlm_server.sandbox.stretches import Stretches

TOLD = 20
"""Stretches that are told with an answer."""

PARTS = 100
"""Parts of the context whose shares are told."""

HELD = 8
"""Documents that are told of a prompt."""

TRACED = 512
"""Stretches of one prompt that are told apart."""

Context = Corpus | Part
Spans = Iterable[tuple[int, int]]


class Coverage:
    """The characters of one run's context that were read, and those that were looked through.

    A child run's count where they stand in the whole; where it has a text of its own, what that
    text held of the context counts as read.
    """

    def __init__(self) -> None:
        self._corpus: Corpus | None = None
        self._read = Stretches()
        self._looked_at = Stretches()

    def begin(self, corpus: Corpus) -> None:
        """Say what the run is about."""
        self._corpus = corpus

    def opened(self, context: Context) -> None:
        """A root model was shown the edges of its context."""
        end = context.characters
        self.read(context, [(0, end)] if end <= 2 * EDGE else [(0, EDGE), (end - EDGE, end)])

    def cell(self, context: Context, result: CellResult) -> None:
        """A cell has ended."""
        self.read(context, result.read)
        if (base := self._base(context)) is not None:
            self._looked_at.update(_within(result.looked_at, base, context.characters))

    def read(self, context: Context, stretches: Spans) -> None:
        """Models were shown these stretches of a run's or a child's context."""
        if (base := self._base(context)) is not None:
            self._read.update(_within(stretches, base, context.characters))

    def held(self, context: Context, stretches: Spans) -> list[Held]:
        """What a prompt holds, by document."""
        base = self._base(context)
        if base is None or self._corpus is None:
            return []
        counts: dict[str, int] = {}
        merged = Stretches(TRACED)
        merged.update(_within(stretches, base, context.characters))
        for stretch in merged.all():
            for document, start, end in _by_document(self._corpus, *stretch):
                counts[document.path] = counts.get(document.path, 0) + end - start
        most = heapq.nlargest(HELD, counts.items(), key=lambda one: one[1])
        return [Held(path=path, characters=characters) for path, characters in most]

    def provenance(
        self, answer: str, question: str, evidence: Sequence[Evidence], *, kept: bool
    ) -> dict[str, Any]:
        """The fields of ``Provenance`` for an answer. Reads the corpus; blocks."""
        assert self._corpus is not None
        read = self._read.all()
        parts = [part for stretch in read for part in _by_document(self._corpus, *stretch)]
        longest = heapq.nlargest(TOLD, parts, key=lambda part: part[2] - part[1])
        return {
            "characters": self._corpus.characters,
            "read": None if kept else self._read.total(),
            "looked_through": self._looked_at.total(),
            "documents": len({document.path for document, _, _ in parts}),
            "strip": _strip(read, self._corpus.characters),
            "stretches": [
                _stretch(self._corpus, *part) for part in sorted(longest, key=lambda part: part[1])
            ],
            "quotes": verify(answer, question, self._corpus, evidence, read),
        }

    def _base(self, context: Context) -> int | None:
        """Where a context begins in the run's; None where it is no part of it."""
        if context.whole is not self._corpus:
            return None
        return context.part[0] if context.part else 0


def _within(stretches: Spans, base: int, characters: int) -> Iterable[tuple[int, int]]:
    """The stretches as offsets of the whole; the sandbox may have said anything."""
    for start, end in stretches:
        yield base + max(0, start), base + min(end, characters)


def _by_document(corpus: Corpus, start: int, end: int) -> Iterable[tuple[Document, int, int]]:
    """Cut a stretch where documents end; what stands between them is left out."""
    at = start
    while at < end:
        document = corpus.document_at(at)
        if document is None:
            at = corpus.next_start(at)
            continue
        yield document, at, min(end, document.end)
        at = document.end


def _stretch(corpus: Corpus, document: Document, start: int, end: int) -> Stretch:
    first, last = corpus.line_at(document, start), corpus.line_at(document, end - 1)
    return Stretch(
        path=document.path,
        line=first,
        last_line=last,
        characters=end - start,
        location=Location(
            uri=document.uri,
            range=Range(
                start=Position(line=first - 1, character=0), end=Position(line=last, character=0)
            ),
        ),
    )


def _strip(read: Sequence[tuple[int, int]], characters: int) -> list[int]:
    """Percentage of each hundredth that was read; a shorter text has as many as characters."""
    number = min(PARTS, characters)
    edges = [part * characters // number for part in range(number + 1)] if number else []
    counts = [0] * number
    for start, end in read:
        part = bisect_right(edges, start) - 1
        while part < number and edges[part] < end:
            counts[part] += min(end, edges[part + 1]) - max(start, edges[part])
            part += 1
    return [
        # What was read at all is not told as nothing.
        count and max(1, round(100 * count / (last - first)))
        for count, (first, last) in zip(counts, pairwise(edges), strict=True)
    ]
