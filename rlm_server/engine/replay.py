"""The replay: a run that goes on finds in its record what was paid for, and is told nothing twice.

The loop, the calls and the children work as in any run. Before they ask a model they look here;
what they tell goes through here too, and what the log has already is not written again. So the
cells of a run make its variables anew, and the run goes on where its record ends.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rlm_server.engine.reply import ReplyParser
from rlm_server.protocol import CellDone, Event, Notice, Output, ReplyDone, Usage
from rlm_server.runs.recorded import (
    PastCall,
    PastCell,
    PastIteration,
    PastQuestion,
    Record,
    by_name,
    key,
    kinds,
)

_ANEW = frozenset(
    [
        "ReplyDelta",
        "Output",
        "SubcallDelta",
        "ChildDelta",
        "RunResumed",
        "RunForked",
        "Answer",
        "AnswerDiff",
        "Provenance",
        "RunEnded",
        "FollowUp",
        "Note",
        "Paused",
        "ApprovalWanted",
        "LimitsChanged",
        "Progress",
    ]
)
"""Events that may be told again: pieces of any length, and what can happen more than once."""


class Reply(NamedTuple):
    """A recorded reply of a root model."""

    text: str
    parser: ReplyParser
    """Has the cells."""
    done: ReplyDone
    """Has what it cost."""


class Replay:
    """The record of one run while it is gone through again."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.bounds = deque(record.whole(question.after) for question in record.further)
        """Iterations after which questions had ended."""
        self._users = list(record.users)
        self.running: set[str] = set()
        """Iterations of which a cell runs that had come to its end."""
        self.diverged: set[str] = set()
        """Iterations in which the code asked what is not in the record."""
        told = (
            event
            for event in record.events
            if event.seq not in record.void and type(event).__name__ not in _ANEW
        )
        self._told: Counter[tuple[str, str, object]] = kinds(told)
        self._times = {key(e): (e.seq, e.time) for e in record.events}
        self._calls = {n: by_name(i.calls) for n, i in record.iterations.items()}
        self._asked: Counter[str] = Counter()
        self._printed: dict[tuple[str, int], deque[Output]] = {}

    # ------------------------------------------------------------------------------- what is asked

    def reply(self, node: str) -> Reply | None:
        """The recorded reply of an iteration."""
        iteration = self.record.iterations.get(node)
        reply = iteration.reply if iteration else None
        if reply is None:
            return None
        parser = ReplyParser()
        parser.feed(reply.text)
        parser.close()
        return Reply(reply.text, parser, reply.done)

    def question_over(self, node: str, iterations: int) -> bool:
        """Whether a loop has come to where the question that it is at had ended."""
        return node == "0" and bool(self.bounds) and iterations >= self.bounds[0]

    def users_cells(self, above: str, iterations: int) -> Iterator[PastCell]:
        """Cells that a person has run after so many iterations; each is given once."""
        for place in [each for each in self._users if each[1:] == (above, iterations)]:
            self._users.remove(place)
            if cell := self.cell(place[0], 1):
                yield cell

    def begun(self, node: str, number: int) -> PastCell | None:
        """A recorded cell, whether or not it has come to its end."""
        iteration = self.record.iterations.get(node)
        return iteration.cells.get(number) if iteration else None

    def rejected(self, node: str, number: int) -> CellDone | None:
        """A recorded cell that a person has not let run."""
        iteration = self.record.iterations.get(node)
        return iteration.rejected.get(number) if iteration else None

    def note(self, node: str) -> str:
        """What a person has added for the model before an iteration."""
        return self.record.notes.get(node, "")

    def call(self, parent: str, name: str) -> PastCall | None:
        """The recorded call with this name in an iteration: each is given once, in order."""
        self._asked[parent] += 1
        waiting = self._calls.get(parent, {}).get(name)
        if waiting:
            return waiting.popleft()
        return None

    def asked(self, parent: str) -> int:
        """How often something was asked in an iteration."""
        return self._asked[parent]

    def unasked(self, past: PastCell) -> Iterator[PastCall]:
        """What was asked while a recorded cell ran, and was not asked this time; given once."""
        waiting = self._calls.get(past.started.node, {})
        for call in past.calls:
            if any(call is each for each in waiting.get(call.name, ())):
                waiting[call.name].remove(call)
                yield call

    def foreign(self, parent: str) -> bool:
        """Whether a call that is not in the record is a surprise, for the first time there."""
        if parent not in self.running or parent in self.diverged:
            return False
        self.diverged.add(parent)
        return True

    def highest(self, parent: str) -> int:
        """The highest number of a recorded call in an iteration."""
        iteration = self.record.iterations.get(parent)
        numbers = (int(c.node.rpartition(".")[2]) for c in iteration.calls) if iteration else ()
        return max(numbers, default=0)

    def cell(self, node: str, number: int) -> PastCell | None:
        """A recorded cell that has come to its end."""
        iteration = self.record.iterations.get(node)
        cell = iteration.cells.get(number) if iteration else None
        return cell if cell is not None and cell.done is not None else None

    def below(self, call: PastCall) -> int:
        """How many sub-calls and child runs a call made, itself included."""
        above = call.node + "."
        return 1 + sum(node.startswith(above) for node in self.record.calls)

    def unaccounted(self, question: PastQuestion | None = None) -> Usage:
        """What the run has used beyond the calls in its record: those that had broken off.

        With a further question: only what was used since it was asked.
        """
        total, since = self.record.usage, question.event.seq if question else -1
        known = list(self._known(since))
        if question is not None:
            known.append(question.used)
        cost: float | None = None
        if total.cost is not None and all(u.cost is not None for u in known):
            cost = max(0.0, total.cost - sum(u.cost or 0.0 for u in known))
        return Usage(
            prompt_tokens=max(0, total.prompt_tokens - sum(u.prompt_tokens for u in known)),
            completion_tokens=max(
                0, total.completion_tokens - sum(u.completion_tokens for u in known)
            ),
            cached_tokens=max(0, total.cached_tokens - sum(u.cached_tokens for u in known)),
            cost=cost,
        )

    def _known(self, since: int) -> Iterator[Usage]:
        """What the calls that were done after an event have used."""
        for iteration in self.record.iterations.values():
            if iteration.reply_done is not None and iteration.reply_done.seq > since:
                yield iteration.reply_done.usage
        for call in self.record.calls.values():
            if call.done is not None and not call.child and call.done.seq > since:
                yield call.done.usage

    # -------------------------------------------------------------------------------- what is told

    def told(
        self, event: type[Event], node: str, fields: dict[str, Any]
    ) -> tuple[int, float] | None:
        """Number and time of an event that the log has already; None for a new one."""
        which = (
            event.__name__,
            node,
            fields.get("cell") or (fields.get("text") if event is Notice else None),
        )
        if self._told[which] > 0:
            self._told[which] -= 1
            return self._times[which]
        iteration: PastIteration | None = self.record.iterations.get(node)
        if event is Notice and iteration is not None and iteration.followed:
            return 0, 0.0  # it says in other words what was said there
        return None

    def unprinted(self, node: str, cell: int, stream: str, text: str) -> str:
        """What of an output is not in the log: that begins with what the cell printed before."""
        place = (node, cell)
        if place not in self._printed:
            self._printed[place] = deque(self._outputs(node, cell))
        waiting = self._printed[place]
        while waiting and text:
            if waiting[0].stream != stream:
                waiting.clear()
                break
            recorded = waiting[0].text
            if text.startswith(recorded):
                text = text[len(recorded) :]
                waiting.popleft()
            elif recorded.startswith(text):
                waiting[0] = _with_text(waiting[0], recorded[len(text) :])
                return ""
            else:
                waiting.clear()
        return text

    def _outputs(self, node: str, cell: int) -> Iterable[Output]:
        iteration = self.record.iterations.get(node)
        past = iteration.cells.get(cell) if iteration else None
        return past.printed if past is not None else ()


def _with_text(output: Output, text: str) -> Output:
    return Output(
        run_id=output.run_id,
        seq=output.seq,
        time=output.time,
        node=output.node,
        cell=output.cell,
        stream=output.stream,
        text=text,
    )
