"""A run's log as a story: its events put together, one iteration of the run at a time.

Any log can be told: one that still grows, one that a crash cut off, one with lines that nothing
can be made of. What was lost is counted, and another run's lines are never taken for this one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.protocol import (
    Answer,
    AnyEvent,
    CellDone,
    CellStarted,
    ChildDelta,
    ChildDone,
    ChildStarted,
    ContextReady,
    Held,
    IterationStarted,
    Notice,
    Output,
    Provenance,
    ReplyDelta,
    ReplyDone,
    RunEnded,
    RunError,
    RunForked,
    RunResumed,
    RunStarted,
    SubcallDelta,
    SubcallDone,
    SubcallStarted,
    Usage,
)
from rlm_server.runs.chain import Reader, Segment, read


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


Item = RunStarted | ContextReady | Step | Notice | Verdict | RunEnded | Lost


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


def tell(path: Path) -> Iterator[Item]:
    """Tell the story of a log as it is now; holds one iteration of the run at a time.

    Raises OSError where the log can't be read.
    """
    teller = _Teller()
    reader = _reader(path)
    strange = 0
    for line in _lines(path, reader):
        try:
            event = _event.decode(line)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
            strange += any(line.startswith(kind) for kind in _KINDS)
            continue
        yield from teller.take(event)
    yield from teller.close()
    if reader.lost + strange:
        yield Lost(reader.lost + strange)


_event = msgspec.json.Decoder(AnyEvent)
_KINDS = [f'{{"kind":"{kind.__struct_config__.tag}"'.encode() for kind in AnyEvent.__args__]
"""How events begin that are known; what else there is comes from newer servers."""


class _First(msgspec.Struct, rename="camel"):
    run_id: str


def _reader(path: Path) -> Reader:
    """A reader for a log, also for one that was given another name."""
    with path.open("rb") as file:
        try:
            run_id = msgspec.json.decode(file.readline(), type=_First).run_id
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
            run_id = path.stem
    return read(path) if run_id == path.stem else Reader([Segment(path, run_id, 0, None)])


def _lines(path: Path, reader: Reader) -> Iterator[bytes]:
    yield from reader.earlier()
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield from reader.take(line[:-1])
    yield from reader.finish()


# ------------------------------------------------------------------------------------- the events


class _Teller:
    """Puts events together."""

    def __init__(self) -> None:
        self._open: Step | None = None
        self._steps: dict[str, Step] = {}
        self._calls: dict[str, Call] = {}
        self._answer: list[str] = []
        self._drawn: Provenance | None = None

    def take(self, event: AnyEvent) -> Iterator[Item]:
        """Take the next event; yield what is complete with it."""
        match event:
            case RunStarted() | ContextReady():
                yield event
            case IterationStarted():
                yield from self._begin(event)
            case Notice():
                step = self._steps.get(event.node) or self._open
                if step is None:
                    yield event
                else:
                    step.notices.append(event)
            case Answer():
                self._answer.append(event.text)
                if not event.more:
                    yield from self._flush()
                    yield Verdict("".join(self._answer), event, self._drawn)
                    self._answer, self._drawn = [], None
            case Provenance():
                self._drawn = event
            case RunEnded():
                yield from self._flush()
                yield event
            case SubcallDelta() | SubcallDone() | ChildDelta() | ChildDone():
                if call := self._calls.get(event.node):
                    _end_call(call, event)
            case RunResumed() | RunForked():
                yield from self._flush()
                yield _turn(event)
            case SubcallStarted() | ChildStarted():
                self._begin_call(event)
            case ReplyDelta() | ReplyDone() | CellStarted() | Output() | CellDone():
                if step := self._steps.get(event.node):
                    _within(step, event)

    def close(self) -> Iterator[Item]:
        """The log is over; yield what was never completed."""
        yield from self._flush()

    def _begin(self, event: IterationStarted) -> Iterator[Item]:
        step = Step(event.node, event.iteration, event.time)
        above = event.node.rpartition(".")[0]
        if above == "0":
            yield from self._flush()
            self._open = step
        elif above in self._calls:
            self._calls[above].steps.append(step)
        self._steps[event.node] = step

    def _begin_call(self, event: SubcallStarted | ChildStarted) -> None:
        tool = event.tool if isinstance(event, SubcallStarted) else ""
        called = f"tool {tool}" if tool else event.model
        call = Call(event.node, event.subcall, called, "", 0)
        if isinstance(event, ChildStarted):
            call.prompt, call.characters = event.question, event.characters
            call.depth, call.documents = event.depth, event.documents
        else:
            call.prompt, call.characters = event.prompt, event.prompt_characters
            call.holds = event.holds
        step = self._steps.get(event.node.rpartition(".")[0])
        if step is not None:
            if not step.cells:  # its beginning is lost
                step.cells.append(Cell(0, ""))
            step.cells[-1].calls.append(call)
            self._calls[call.node] = call

    def _flush(self) -> Iterator[Item]:
        step, self._open = self._open, None
        self._steps.clear()
        self._calls.clear()
        if step is not None:
            yield step


def _turn(event: RunResumed | RunForked) -> Notice:
    """A place from which on a run went on otherwise, as a notice."""
    text = "Resumed here."
    if isinstance(event, RunForked):
        text = f"A fork of {event.parent_run_id} from iteration {event.iteration} on."
        text += f" {event.added_note}" if event.added_note else ""
    return Notice(
        run_id=event.run_id, seq=event.seq, time=event.time, node="0", level="info", text=text
    )


def _within(step: Step, event: Any) -> None:
    """Add an event of an iteration to it."""
    if isinstance(event, ReplyDelta):
        step.parts.append((event.part, event.text))
    elif isinstance(event, ReplyDone):
        step.model, step.usage, step.seconds = event.model, event.usage, event.seconds
        step.cached, step.ended = event.cached, True
        if event.characters is not None:
            _drop_broken_off(step.parts, event.characters)
    elif isinstance(event, CellStarted):
        step.cells.append(Cell(event.cell, event.code))
    else:
        cell = next((one for one in reversed(step.cells) if one.number == event.cell), None)
        if cell is None:
            step.cells.append(cell := Cell(event.cell, ""))
        if isinstance(event, Output):
            cell.output.append((event.stream, event.text))
        else:
            cell.status, cell.error = event.status, event.error
            cell.seconds, cell.characters = event.seconds, event.output_characters


def _drop_broken_off(parts: list[tuple[str, str]], characters: int) -> None:
    """Leave of the reply its last so many characters: what stands before them is void."""
    surplus = sum(len(text) for kind, text in parts if kind != "reasoning") - characters
    for at, (kind, text) in enumerate(parts):
        if surplus > 0 and kind != "reasoning":
            parts[at] = (kind, text[surplus:])
            surplus -= len(text)


def _end_call(call: Call, event: SubcallDelta | SubcallDone | ChildDelta | ChildDone) -> None:
    if isinstance(event, SubcallDelta | ChildDelta):
        call.answer += event.text
        return
    call.answer += event.answer
    call.status, call.error = event.status, event.error
    call.usage, call.seconds = event.usage, event.seconds
    call.cached = isinstance(event, SubcallDone) and event.cached
