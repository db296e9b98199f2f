"""What a log says of a run that is to go on: its replies, its cells, and what they asked for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
    Event,
    FollowUp,
    IterationStarted,
    Limits,
    LimitsChanged,
    Note,
    Output,
    Progress,
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
    Void,
)

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


@dataclass
class PastCall:
    """A sub-call or child run that a cell has asked for."""

    node: str
    name: str
    """Hash of what it asked."""
    child: bool
    model: str = ""
    done: SubcallDone | ChildDone | None = None
    pieces: list[str] = field(default_factory=list)
    """Of its answer, but for the last."""

    @property
    def answer(self) -> str:
        """The whole answer."""
        return "".join(self.pieces) + (self.done.answer if self.done else "")

    @property
    def error(self) -> RunError | None:
        """What went wrong; a child's best answer at its limit is not an error for the code."""
        if self.done is None:
            return None
        if isinstance(self.done, ChildDone) and self.done.status == "limit" and self.answer:
            return None
        return self.done.error


@dataclass
class PastCell:
    """A cell that has run, or begun to."""

    started: CellStarted
    printed: list[Output] = field(default_factory=list)
    done: CellDone | None = None
    calls: list[PastCall] = field(default_factory=list)
    """What was asked while it ran, in that order."""


@dataclass
class PastReply:
    """A whole reply of a root model."""

    text: str
    done: ReplyDone


@dataclass
class PastIteration:
    """One iteration of the run or of a child run."""

    node: str
    parts: list[ReplyDelta] = field(default_factory=list)
    reply_done: ReplyDone | None = None
    cells: dict[int, PastCell] = field(default_factory=dict)
    calls: list[PastCall] = field(default_factory=list)
    rejected: dict[int, CellDone] = field(default_factory=dict)
    """Cells that a person has not let run."""
    direct: bool = False
    """Whether the whole text went to the model, and no code was asked for."""
    followed: bool = False
    """Whether another iteration came after it, so that it is whole."""

    @property
    def half(self) -> bool:
        """Whether there is only a part of the reply."""
        return self.reply is None and bool(self.parts)

    @property
    def reply(self) -> PastReply | None:
        """The reply, where all of it is there; what had broken off before it is left out."""
        if self.reply_done is None:
            return None
        text = "".join(part.text for part in self.parts if part.part != "reasoning")
        length = self.reply_done.characters
        if length is None or length == len(text):
            return PastReply(text, self.reply_done)
        return (
            PastReply(text[-length:] if length else "", self.reply_done)
            if (length < len(text))
            else None
        )


@dataclass
class PastQuestion:
    """A further question of a run."""

    event: FollowUp
    text: str
    """The question, whole as soon as whoever has the kept texts has put it here."""
    after: int
    """Iterations before it."""
    answered: str
    """What the question before it was answered with."""
    seconds: float
    """Wall time used before it."""
    used: Usage
    """Totals that were told last before it."""


class Record:
    """A run as its log has it. Events of kinds that are not needed here are only counted."""

    def __init__(self, lines: Iterable[bytes], *, over: bool = False) -> None:
        """Take all events of a run, as ``chain.events_of`` gives them.

        ``over``: the run is not to go on where it ended, so that all of it counts.
        """
        self.started: RunStarted | None = None
        self.forked: RunForked | None = None
        """The last fork that led to this run, if any."""
        self.resumed: RunResumed | None = None
        self.limits: Limits | None = None
        """Those that were in force at last."""
        self.context: ContextReady | None = None
        self.iterations: dict[str, PastIteration] = {}
        self.calls: dict[str, PastCall] = {}
        self.notes: dict[str, str] = {}
        """What a person has added for the model, by the node of the iteration before which."""
        self.users: list[tuple[str, str, int]] = []
        """Cells of the person's own: node, the run or child run, iterations before it."""
        self.further: list[PastQuestion] = []
        """The questions after the first."""
        self.ended: RunEnded | None = None
        self.answer = ""
        self.seconds = 0.0
        """Wall time used."""
        self.usage = Usage()
        """Totals that were told last."""
        self.void: set[int] = set()
        """Numbers of events that won't count when the run goes on."""
        self.events: list[Event] = []
        self.lost = 0
        """Events that can't be read."""
        self._told_at = 0.0
        for event in _decoded(lines, self):
            self._take(event)
        if not over:
            self._find_void()

    @property
    def question(self) -> str:
        """The question as the log has it."""
        started = self.forked or self.started
        return started.question if started else ""

    @property
    def root_model(self) -> str | None:
        """The root model that was asked last; None where the log doesn't say."""
        told = self.resumed or self.forked or self.started
        return told.root_model if told else None

    @property
    def sub_model(self) -> str | None:
        """The model for sub-calls that was asked last."""
        told = self.resumed or self.forked or self.started
        return told.sub_model if told else None

    @property
    def seed(self) -> int:
        """What random numbers in cells began with."""
        return self.started.seed if self.started else 0

    def last_iteration(self, above: str = "0") -> int:
        """Number of the newest iteration of a run or child run; 0 before the first."""
        last = (n.rpartition(".")[2] for n in self.iterations if _is_of(n, above))
        return max((int(number) for number in last if number.isdigit()), default=0)

    def whole(self, iteration: int) -> int:
        """The iteration, or the one before it where its reply never came."""
        last = self.iterations.get(f"0.{iteration}")
        return iteration if last is None or last.reply is not None else iteration - 1

    def begun(self, iteration: int) -> int | None:
        """Number of the event with which an iteration of the run itself began."""
        for event in self.events:
            if isinstance(event, IterationStarted) and event.node == f"0.{iteration}":
                return event.seq
        return None

    # ------------------------------------------------------------------------------ taking events

    def _take(self, event: AnyEvent) -> None:
        if isinstance(event, Void):
            return
        self.events.append(event)
        self._take_times(event)
        match event:
            case RunStarted():
                self.started, self.limits = event, event.limits
            case RunForked():
                self.forked, self.limits, self.resumed = event, event.limits, None
                if event.added_note:
                    self.notes[f"0.{event.iteration}"] = event.added_note
            case RunResumed():
                self.resumed, self.limits = event, event.limits
            case LimitsChanged():
                self.limits = event.limits
            case FollowUp():
                self._take_question(event)
            case Note():
                self._say(event.node, event.text)
            case ContextReady():
                self.context = event
            case Answer():
                self.answer += event.text
            case RunEnded():
                self.ended = event
            case _:
                self._take_work(event)

    def _take_times(self, event: AnyEvent) -> None:
        """Follow how much time is used: told now and then, and counted from there."""
        if isinstance(event, Progress | RunEnded):
            self.seconds, self.usage = event.seconds, event.usage
        elif not isinstance(event, RunResumed | RunForked | RunStarted) and self._told_at:
            self.seconds += max(0.0, event.time - self._told_at)
        self._told_at = event.time

    def _take_question(self, event: FollowUp) -> None:
        self.limits = event.limits
        before = (self.last_iteration(), self.answer, self.seconds, self.usage)
        self.further.append(PastQuestion(event, event.question, *before))
        self.ended, self.answer = None, ""

    def _say(self, above: str, text: str) -> None:
        """A note is heard with the next message."""
        node = f"{above}.{self.last_iteration(above) + 1}"
        self.notes[node] = "\n\n".join(filter(None, (self.notes.get(node), text)))

    def _take_work(self, event: AnyEvent) -> None:
        match event:
            case IterationStarted():
                above, _, number = event.node.rpartition(".")
                if former := self.iterations.get(f"{above}.{int(number) - 1}"):
                    former.followed = True
                self._iteration(event.node).direct = event.direct
            case ReplyDelta():
                self._iteration(event.node).parts.append(event)
            case ReplyDone():
                self._iteration(event.node).reply_done = event
            case CellStarted():
                if event.by_user:
                    above = event.node.rpartition(".")[0]
                    self.users.append((event.node, above, self.last_iteration(above)))
                self._iteration(event.node).cells[event.cell] = PastCell(event)
            case Output():
                if cell := self._iteration(event.node).cells.get(event.cell):
                    cell.printed.append(event)
            case CellDone():
                iteration = self._iteration(event.node)
                if cell := iteration.cells.get(event.cell):
                    cell.done = event
                elif event.status == "rejected":  # a person has not let it run
                    iteration.rejected[event.cell] = event
            case SubcallStarted() | ChildStarted():
                self._take_call(event)
            case SubcallDelta() | ChildDelta():
                if call := self.calls.get(event.node):
                    call.pieces.append(event.text)
            case SubcallDone() | ChildDone():
                if call := self.calls.get(event.node):
                    call.done = event

    def _take_call(self, event: SubcallStarted | ChildStarted) -> None:
        call = PastCall(event.node, event.prompt_hash, isinstance(event, ChildStarted), event.model)
        self.calls[event.node] = call
        iteration = self._iteration(event.node.rpartition(".")[0])
        iteration.calls.append(call)
        for cell in iteration.cells.values():
            if cell.done is None:
                cell.calls.append(call)

    def _iteration(self, node: str) -> PastIteration:
        if node not in self.iterations:
            self.iterations[node] = PastIteration(node)
        return self.iterations[node]

    # --------------------------------------------------------------------------- what won't count

    def _find_void(self) -> None:
        """Find what the run makes anew: its end, half a reply, a cell that its end has stopped."""
        stopped = self._stopped()
        asked = self.further[-1].event.seq if self.further else -1
        halves = {node for node, each in self.iterations.items() if each.half}
        for event in self.events:
            if event.seq < asked and isinstance(event, Answer | Provenance | RunEnded):
                continue  # it answered an earlier question
            if (
                isinstance(event, Answer | Provenance | RunEnded)
                or (
                    isinstance(event, ReplyDelta | CellStarted | Output | CellDone)
                    and event.node in halves
                )
                or (isinstance(event, CellDone | SubcallDone | ChildDone) and event.node in stopped)
            ):
                self.void.add(event.seq)
        for node in halves:
            self.iterations[node].cells.clear()  # of a reply that is asked for anew
        for node in stopped:
            if call := self.calls.get(node):
                call.done, call.pieces = None, []
            for cell in self.iterations.get(node, PastIteration(node)).cells.values():
                if cell.done is not None and cell.done.seq in self.void:
                    cell.done = None

    def _stopped(self) -> set[str]:
        """Nodes whose cells and calls the end of the run has stopped before they were done."""
        if self.ended is None:
            return set()
        found: set[str] = set()
        for node, iteration in self.iterations.items():
            done = [cell.done for cell in iteration.cells.values() if cell.done is not None]
            if iteration.followed or not done or done[-1].status not in ("cancelled", "timeout"):
                continue
            call = self.calls.get(node.rpartition(".")[0])
            if call is None or call.done is None or call.done.status == "cancelled":
                found.add(node)
        for node, call in self.calls.items():
            if (
                call.done is not None
                and call.done.status == "cancelled"
                and any(node.startswith(above + ".") for above in found)
            ):
                found.add(node)
        return found


def _decoded(lines: Iterable[bytes], record: Record) -> Iterator[AnyEvent]:
    for line in lines:
        try:
            yield _decoder.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            record.lost += 1


def _is_of(node: str, above: str) -> bool:
    return node.rpartition(".")[0] == above


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as ranges, ends included."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def by_name(calls: Iterable[PastCall]) -> dict[str, deque[PastCall]]:
    """Calls by what they asked, in the order in which they were made.

    But for those that a limit refused, which come last: where one was made ahead of its loop, it
    was made once more when its turn came.
    """
    found: dict[str, deque[PastCall]] = {}
    for call in sorted(calls, key=_refused):
        found.setdefault(call.name, deque()).append(call)
    return found


def _refused(call: PastCall) -> bool:
    return call.error is not None and call.error.kind in ("limit", "budget")


def kinds(events: Iterable[Event]) -> Counter[tuple[str, str, object]]:
    """How often each event stands in a log that is made once in a place: its kind, node, which."""
    return Counter(key(event) for event in events)


def key(event: Event) -> tuple[str, str, object]:
    """What tells an event from others of its kind in the same node."""
    which = getattr(event, "cell", None) or (
        getattr(event, "text", None) if type(event).__name__ == "Notice" else None
    )
    return type(event).__name__, event.node, which
