"""What a run's story is made of: iterations with their cells and calls, answers, turns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from rlm_server.protocol import (
    Answer,
    ContextReady,
    FollowUp,
    Held,
    Notice,
    Provenance,
    RunEnded,
    RunError,
    RunStarted,
    Usage,
)


@dataclass
class Call:
    """A sub-call, or a child run, of a cell."""

    node: str
    number: int
    model: str
    prompt: str
    """As the log has it, clipped; a child's question."""
    characters: int
    """True length of the prompt, or of a child's context."""
    answer: str = ""
    status: str = "unfinished"
    error: RunError | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cached: bool = False
    depth: int = 0
    """Of a child run; 0 for a sub-call."""
    documents: int = 0
    holds: list[Held] = field(default_factory=list)
    """What of the context the prompt holds."""
    steps: list[Step] = field(default_factory=list)
    """The iterations of a child run."""


@dataclass
class Cell:
    """A block of code that ran."""

    number: int
    code: str
    output: list[tuple[str, str]] = field(default_factory=list)
    """Stream and text, in the pieces that the log has; see ``joined``."""
    status: str = "unfinished"
    error: str = ""
    seconds: float = 0.0
    characters: int = 0
    calls: list[Call] = field(default_factory=list)


@dataclass
class Step:
    """One iteration: a reply, and what came of it."""

    node: str
    number: int
    time: float
    parts: list[tuple[str, str]] = field(default_factory=list)
    """Part of the reply and its text, in the pieces that the log has; see ``joined``."""
    notices: list[Notice] = field(default_factory=list)
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cached: bool = False
    ended: bool = False
    """Whether the reply came to its end."""
    cells: list[Cell] = field(default_factory=list)

    def total(self) -> Usage:
        """What the reply and everything below it have used."""
        total = self.usage
        for cell in self.cells:
            for call in cell.calls:
                total = add(total, call.usage)
        return total

    def duration(self) -> float:
        """Seconds of the reply and its cells."""
        return self.seconds + sum(cell.seconds for cell in self.cells)


@dataclass
class Verdict:
    """The answer, its pieces put together; ``last`` is the event of the last piece.

    ``drawn`` tells what it is drawn from; None in logs of earlier versions.
    """

    text: str
    last: Answer
    drawn: Provenance | None


@dataclass
class Lost:
    """That something is missing of a log, told last; notices stand where it is missing."""

    events: int


Item = RunStarted | ContextReady | FollowUp | Step | Notice | Verdict | RunEnded | Lost


def add(one: Usage, other: Usage) -> Usage:
    """The sum; its cost is unknown where one of them is."""
    unknown = one.cost is None or other.cost is None
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        cost=None if unknown else (one.cost or 0.0) + (other.cost or 0.0),
    )


def joined(pieces: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pieces, neighbours of one kind together."""
    return [
        (kind, "".join(text for _, text in group)) for kind, group in groupby(pieces, itemgetter(0))
    ]
