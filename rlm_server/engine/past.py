"""What a run has from past ones: its own record where it goes on, the program that it reruns."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from rlm_server import __version__
from rlm_server.context.corpus import Corpus
from rlm_server.engine.calls import Calls
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.ledger import Ledger
from rlm_server.engine.program import Program
from rlm_server.engine.replay import Replay
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    AnswerDiff,
    AskOptions,
    IsolationMode,
    IterationStarted,
    Limits,
    Notice,
    RunForked,
    RunResumed,
)
from rlm_server.runs.recorded import Record, ranges
from rlm_server.text import clip


@dataclass
class Fork:
    """Where a fork leaves its parent."""

    parent: str
    iteration: int
    options: AskOptions
    note: str
    """What the model is told before that iteration."""
    project: str | None
    max_depth: int
    reply: str
    """Of that iteration, where a person has written its code; else empty."""


@dataclass
class Past:
    """The part of a run that is in its log."""

    record: Record
    corpus: Corpus | None
    seq: int
    """The number of the next event."""
    limits: Limits
    seed: int
    fork: Fork | None = None
    revive: bool = False
    """Whether the run is only to rest again, so that it can be asked further."""
    program: Program | None = None
    """Gives the reply that a person has edited."""

    def direct(self) -> bool | None:
        """Whether its text went straight to the model; None where nothing had been asked."""
        for event in self.record.events:
            if isinstance(event, IterationStarted) and event.node == "0.1":
                return event.direct
        return None

    def notes(self) -> list[str]:
        """The strategy notes that its model was told."""
        return self.record.started.notes if self.record.started else []

    def compare(self, emitter: Emitter, opening: str, root: str) -> None:
        """Tell if what the model is told at the beginning is not what it was told then."""
        begun = [
            event.opening
            for event in self.record.events
            if isinstance(event, IterationStarted) and event.opening
        ]
        other_model = self.fork is not None and root != self.record.root_model
        if begun and opening != begun[0] and not other_model:
            emitter.emit(
                Notice,
                level="warning",
                text="What the model is told at the beginning has changed since: its prompt, its "
                "profile or the tools. What it had answered stays; it goes on with the new one.",
            )

    def prepare(self, emitter: Emitter, ledger: Ledger, calls: Calls) -> None:
        """Let the parts of a run go on from here."""
        if self.fork is not None and self.fork.note:
            self.record.notes[f"0.{self.fork.iteration}"] = self.fork.note
        replay = Replay(self.record)
        calls.program = self.program
        emitter.go_on(self.seq)
        ledger.limits = self.limits
        if self.revive or self.record.further:  # what is over already has no limit of time
            ledger.go_on(0.0, self.record.seconds)
        else:
            ledger.go_on(self.record.seconds)
        ledger.restore("0", replay.unaccounted())
        if self.revive:
            replay.bounds.append(self.record.whole(self.record.last_iteration()))
        emitter.replay = calls.replay = replay

    def announce(self, emitter: Emitter, root: str, sub: str, isolation: IsolationMode) -> None:
        """Tell in the log that the run goes on."""
        record = self.record
        if self.revive:
            return
        if self.fork is None:
            emitter.emit(
                RunResumed,
                iteration=max(1, record.last_iteration()),
                void=ranges(record.void),
                root_model=root,
                sub_model=sub,
                limits=self.limits,
            )
            return
        emitter.emit(
            RunForked,
            parent_run_id=self.fork.parent,
            parent_seq=self.seq - 1,
            iteration=self.fork.iteration,
            question=record.question,
            root_model=root,
            sub_model=sub,
            limits=self.limits,
            max_depth=self.fork.max_depth,
            server_version=__version__,
            isolation=isolation,
            project=self.fork.project,
            options=self.fork.options,
            added_note=self.fork.note,
            given_reply=self.fork.reply,
        )


@dataclass
class Rerun:
    """The run whose program is run again, and what it had answered."""

    run_id: str
    program: Program
    answer: str

    def compare(self, emitter: Emitter, answer: str) -> None:
        """Tell how the answer has changed."""
        before, now = self.answer.splitlines(), answer.splitlines()
        lines = difflib.unified_diff(before, now, self.run_id, emitter.run_id, lineterm="")
        diff = "\n".join(lines)
        emitter.emit(
            AnswerDiff,
            original_run_id=self.run_id,
            same=not diff,
            diff=clip(diff, MAX_EVENT_TEXT),
        )
