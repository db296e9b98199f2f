"""Digests of runs: how each went about its question, in figures that runs can be compared by.

Nothing that a text or a model has said is in them but the question, so that what stands in a
context can't become advice.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rlm_server.engine.notes import kind_of
from rlm_server.protocol import ContextReady, Mark, RunEnded, RunStarted
from rlm_server.runs.export.items import Call, Step, Verdict
from rlm_server.runs.export.story import tell
from rlm_server.text import clip

_SEARCHES = re.compile(r"\b(?:grep|search|cite)\s*\(|\bre\.\w+\s*\(")
_ASKS = re.compile(r"\b(?:llm_query|rlm_query|map_reduce)(?:_batched)?\s*\(")
_CHUNKS = re.compile(r"\bchunk_(?:lines|headings|tokens|code)\b")
_BATCHES = re.compile(r"\b(?:llm_query_batched|rlm_query_batched|map_reduce)\b")


@dataclass
class Digest:
    """How one run went about its question."""

    run_id: str
    question: str = ""
    kind: str = "other"
    good: bool = True
    reason: str = ""
    model: str = ""
    characters: int = 0
    """Of the context."""
    status: str = "interrupted"
    iterations: int = 0
    failed_cells: int = 0
    searched_first: bool = False
    """Whether code searched before the first call to a model."""
    chunked: bool = False
    batched: bool = False
    recursed: bool = False
    """Whether there was a child run."""
    prompts: list[int] = field(default_factory=list)
    """Characters of the prompts of sub-calls."""
    places: int = 0
    """Places that the answer names and that are there."""
    doubts: int = 0
    """Quotations and places that are not."""
    share: float | None = None
    """Part of the context that models have read."""
    cost: float | None = None
    seconds: float = 0.0

    @property
    def piece(self) -> int:
        """Characters of a middling prompt; 0 without sub-calls."""
        return int(statistics.median(self.prompts)) if self.prompts else 0

    def line(self) -> str:
        """The digest as a model is told it."""
        how = [
            f"{self.iterations} iterations",
            f"{len(self.prompts)} sub-calls"
            + (f" of about {self.piece:,} characters" if self.prompts else ""),
            "searched with code first" if self.searched_first else "did not search first",
        ]
        how += ["child runs"] * self.recursed + ["in batches"] * self.batched
        how += [f"{self.failed_cells} cells failed"] * bool(self.failed_cells)
        how += [f"{self.doubts} quotations not in the context"] * bool(self.doubts)
        if self.share is not None:
            how.append(f"read {self.share:.1%}")
        return (
            f"[{'good' if self.good else 'bad'}] {self.question!r} over {self.characters:,} "
            f"characters, by {self.model}, ended {self.status}: {', '.join(how)}."
            + (f" The person says: {self.reason!r}" if self.reason else "")
        )


def digest(log: Path, mark: Mark) -> Digest:
    """Digest the run with this log. Raises OSError. Blocks."""
    made = Digest(log.stem, good=mark.good, reason=clip(mark.reason, 400))
    asked = False
    for item in tell(log):
        if isinstance(item, RunStarted):
            made.question, made.model = clip(item.question, 400), item.root_model
            made.kind = kind_of(item.question)
        elif isinstance(item, ContextReady):
            made.characters = item.characters
        elif isinstance(item, Step):
            asked = _take(made, item, asked)
        elif isinstance(item, Verdict):
            made.places = len(item.last.evidence)
            if told := item.drawn:
                made.doubts = sum(quote.status in ("missing", "like") for quote in told.quotes)
                made.share = None if told.read is None else told.read / max(1, told.characters)
        elif isinstance(item, RunEnded):
            made.status, made.cost, made.seconds = item.status, item.usage.cost, item.seconds
    return made


def _take(made: Digest, step: Step, asked: bool) -> bool:
    """Add an iteration; return whether a model has been called by now."""
    made.iterations += 1
    for cell in step.cells:
        made.failed_cells += cell.status != "ok"
        search, ask = _SEARCHES.search(cell.code), _ASKS.search(cell.code)
        if not asked and search and (ask is None or search.start() < ask.start()):
            made.searched_first = True
        made.chunked = made.chunked or _CHUNKS.search(cell.code) is not None
        made.batched = made.batched or _BATCHES.search(cell.code) is not None
        asked = asked or ask is not None
        for call in _calls(cell.calls):
            if call.depth:
                made.recursed = True
            elif call.status == "ok":
                made.prompts.append(call.characters)
    return asked


def _calls(calls: list[Call]) -> Iterator[Call]:
    """The calls, and those of child runs below them."""
    for call in calls:
        yield call
        for step in call.steps:
            for cell in step.cells:
                yield from _calls(cell.calls)
