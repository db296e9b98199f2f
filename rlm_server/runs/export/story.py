"""A run's log as a story: its events put together, one iteration of the run at a time.

Any log can be told: one that still grows, one that a crash cut off, one with lines that nothing
can be made of. What was lost is counted, and another run's lines are never taken for this one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.protocol import (
    Answer,
    AnyEvent,
    ApprovalWanted,
    CellDone,
    CellStarted,
    ChildDelta,
    ChildDone,
    ChildStarted,
    ContextReady,
    Event,
    FollowUp,
    IterationStarted,
    Note,
    Notice,
    Output,
    Provenance,
    ReplyDelta,
    ReplyDone,
    RunEnded,
    RunForked,
    RunResumed,
    RunStarted,
    SubcallDelta,
    SubcallDone,
    SubcallStarted,
)
from rlm_server.runs.chain import Reader, Segment, read
from rlm_server.runs.export.items import Call, Cell, Item, Lost, Step, Verdict


def tell(path: Path) -> Iterator[Item]:
    """Tell the story of a log as it is now; holds one iteration of the run at a time.

    Raises OSError where the log can't be read.
    """
    teller = _Teller()
    reader = _reader(path)
    strange = 0
    for line in reader.lines():
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
            case RunResumed() if self._open:  # the iteration goes on, too
                self._open.notices.append(_turn(event))
            case RunResumed() | RunForked():
                yield from self._flush()
                yield _turn(event)
            case FollowUp():
                yield from self._flush()
                yield event
            case Note() if step := self._steps.get(event.node) or self._open:
                step.notices.append(_notice(event, f"A person says: {event.text}"))
            case SubcallStarted() | ChildStarted():
                self._begin_call(event)
            case ReplyDelta() | ReplyDone():
                if step := self._steps.get(event.node):
                    _within(step, event)
            case ApprovalWanted() | CellStarted() | Output() | CellDone():
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
    return _notice(event, text)


def _notice(event: Event, text: str) -> Notice:
    return Notice(
        run_id=event.run_id,
        seq=event.seq,
        time=event.time,
        node=event.node,
        level="info",
        text=text,
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
    else:
        cell = next((one for one in reversed(step.cells) if one.number == event.cell), None)
        if cell is None:
            step.cells.append(cell := Cell(event.cell, ""))
        if isinstance(event, ApprovalWanted | CellStarted):
            cell.code = event.code  # what a person has edited is what runs
            return
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
