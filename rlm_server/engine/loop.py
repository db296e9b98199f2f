"""The loop: ask the root model, run its code, show it the output, until the code has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal

from rlm_server.engine import prompt
from rlm_server.engine.accepting import Acceptance
from rlm_server.engine.calls import Calls
from rlm_server.engine.cell_again import run_again
from rlm_server.engine.early import EarlyCell
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.history import Feedback, History
from rlm_server.engine.ledger import Ledger, LimitReached
from rlm_server.engine.nearing import Nearing
from rlm_server.engine.profile import Profile
from rlm_server.engine.reply import ReplyParser
from rlm_server.engine.steering import APPROVED, Decision, Steering
from rlm_server.engine.typed import AnswerType
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    CellDone,
    CellStarted,
    IterationStarted,
    Notice,
    Output,
)
from rlm_server.sandbox import CellResult, Repl, Sure, rejected
from rlm_server.text import clip

SHOWN = 4000
"""Characters of a reply's output that the root model is shown whole."""

MOST_CELLS = 20
"""Cells of one reply that are run; the model is told of those that were not."""

LEAST_SECONDS = 0.1
"""What a cell gets where the time is as good as over."""


class QuestionOver(Exception):  # noqa: N818 - it is no fault
    """The record of a question ends here, and another question follows."""


class Loop:
    """The iterations of a run, or of a child run, over one REPL."""

    def __init__(
        self,
        emitter: Emitter,
        calls: Calls,
        ledger: Ledger,
        *,
        node: str,
        model: str,
        profile: Profile,
        steering: Steering,
        answer_type: AnswerType | None = None,
    ) -> None:
        """Prepare a loop below ``node`` that asks ``model`` within the limits of ``ledger``."""
        self.node = node
        self.model = model
        self.profile = profile
        self.iterations = 0
        """Of all questions."""
        self.best = ""
        """The best answer so far: what the code has set, ready or not."""
        self.last_prose = ""
        self.stopping = False
        """Set when the run is to end as soon as the running cell has been interrupted."""
        self.opening = ""
        """Hash of what its model is told at the beginning, until that is in the log."""
        self.repl: Repl | None = None
        self.floor = asyncio.Lock()
        """Held by whoever uses the REPL: a cell of the model's, or the user."""
        self.users_cell: str | None = None
        """The node of the user's own cell that runs."""
        self._emitter = emitter
        self._calls = calls
        self._steering = steering
        self._history: History | None = None
        self._ledger = ledger
        self._earlier_iterations = 0
        self._nearing = Nearing(ledger)
        self._cell_began = 0.0
        self._acceptance = Acceptance(answer_type)
        self.on_cell: Callable[[CellResult], None] = lambda result: None
        """Told of each cell that has ended."""
        self._refused = False
        self._did: list[tuple[str, str]] = []
        """Code of the last reply, and what it printed."""
        self._running = False
        self._in_cell = False
        """Whether that cell is sure to be wanted, and can be stopped."""

    @property
    def current(self) -> str:
        """The node of the iteration, or the user's own cell, that is going on."""
        return self.users_cell or f"{self.node}.{self.iterations}"

    @property
    def busy(self) -> bool:
        """Whether a cell runs, of the model's or the user's."""
        return self._running or self.users_cell is not None

    def interrupt(self) -> bool:
        """Stop the cell that runs; False where none of the model's does."""
        if self.repl is None or not (self._in_cell or self.users_cell):
            return False
        self.repl.interrupt()
        return self._in_cell

    def follow_limits(self) -> None:
        """Give the cell that runs the time that changed limits, or a held clock, leave to it."""
        if self.repl is not None and self._in_cell:
            if self._steering.clock.held:
                self.repl.allow(None)
                return
            used = self._ledger.seconds - self._cell_began
            left = min(self._ledger.limits.cell_seconds - used, self._ledger.seconds_left)
            self.repl.allow(max(LEAST_SECONDS, left))

    async def run(self, repl: Repl, history: History) -> str:
        """Go on until the answer is ready, and return it.

        Raises LimitReached, ModelError, SchemaError.
        """
        self.repl, self._history = repl, history
        return await self._iterate(history)

    def begin_question(self, model: str, profile: Profile, answer_type: AnswerType | None) -> None:
        """Forget the last answer; ``model`` is asked for the next one."""
        self.model, self.profile = model, profile
        self.best = self.last_prose = ""
        self.stopping = self._refused = False
        self._did = []
        self._earlier_iterations = self.iterations
        self._nearing = Nearing(self._ledger)
        self._acceptance = Acceptance(answer_type)

    async def run_further(self, question: str) -> str:
        """Go on with a further question, in the namespace and the conversation as they are."""
        assert self.repl is not None
        assert self._history is not None
        self.repl.renew()
        self._history.say(question)
        return await self._iterate(self._history)

    async def replay_users_cells(self) -> None:
        """Run anew what the person has run in this namespace where its record stands."""
        if (replay := self._calls.replay) is None or self.repl is None:
            return
        for past in replay.users_cells(self.node, self.iterations):
            self.users_cell = self._steering.users_node(self.node)
            run = partial(
                self.repl.run, past.started.code, now=past.started.time, show=MAX_EVENT_TEXT
            )
            try:
                await run_again(self.repl, run, past, replay, self._notice, SHOWN)
            finally:
                self.users_cell = None
                self._calls.count_unasked(past)

    @property
    def _iterations_left(self) -> int:
        return self._ledger.limits.iterations - self.iterations + self._earlier_iterations

    async def _iterate(self, history: History) -> str:
        while self._iterations_left > 0:
            await self.replay_users_cells()
            if (past := self._calls.replay) and past.question_over(self.node, self.iterations):
                raise QuestionOver
            await self._steering.gate(self.node)
            self.iterations += 1
            node = f"{self.node}.{self.iterations}"
            if self.node == "0":
                self._calls.iteration = self.iterations
            opening, self.opening = self.opening, ""
            self._emitter.emit(IterationStarted, node, iteration=self.iterations, opening=opening)
            if (replay := self._calls.replay) and (note := replay.note(node)):
                history.say(prompt.person_note(note))
            self._ledger.check_time()
            if news := self._steering.news(self.node):
                history.say(news)
            early = self._early(node)
            try:
                text, reply = await self._calls.root(node, self.model, history.messages, early)
            except BaseException:
                if early is not None:
                    await early.abandon()
                raise
            feedback, done = await self._react(node, text, reply, early)
            if not done:
                feedback = self._warned(node, feedback)
            if summed_up := history.add(text, feedback):
                self._notice(node, summed_up, level="info")
            if done:
                return self.best
        limit = self._ledger.limits.iterations
        raise LimitReached(f"the limit of {limit} iteration{'s' * (limit != 1)} is reached")

    def _warned(self, node: str, feedback: Feedback) -> Feedback:
        """Add what the model should know of limits that are near."""
        for text, first in self._nearing.due():
            feedback = feedback.and_also(prompt.nearing(text))
            if first:
                self._notice(node, f"{text} The model was told so.")
        remaining = self._iterations_left
        if remaining in (1, 2):
            feedback = feedback.and_also(prompt.last_call(remaining))
        return feedback

    def _early(self, node: str) -> EarlyCell | None:
        """What lets the first cell of the next reply begin early, where that is wanted."""
        if not self._calls.speculation.early(self._ledger):
            return None
        if self._steering.approving or self._steering.paused:
            return None
        if self.repl is None or not self.repl.undoes:
            return None
        begin = partial(self._cell, node, 1, reply="")
        unsure = self._calls.unsure
        return EarlyCell(
            self._emitter,
            node,
            lambda c, sure: begin(code=c, sure=sure),
            unsure,
            may_begin=lambda: not self._steering.paused,
        )

    async def _first(self, node: str, code: str, text: str, early: EarlyCell | None) -> CellResult:
        """Run the first cell of a reply, unless it runs already."""
        result = await early.result() if early is not None else None
        if result is None:
            return await self._cell(node, 1, code, text)
        assert self.repl is not None
        self.repl.complete(text)
        return result

    async def _react(
        self, node: str, text: str, reply: ReplyParser, early: EarlyCell | None
    ) -> tuple[Feedback, bool]:
        """Run the reply's cells; return what to tell the model, and whether the answer is ready."""
        if not reply.cells:
            if early is not None:
                await early.abandon()  # of a reply that had broken off before this one
            self.last_prose = text.strip()
            self._notice(node, "The reply held no code to run; the model was told so.")
            told = prompt.no_code(reply, self.profile)
            return Feedback(told, told), False
        results: list[CellResult] = []
        for number, code in enumerate(reply.cells[:MOST_CELLS], 1):
            if number == 1:
                results.append(await self._first(node, code, text, early))
            else:
                results.append(await self._cell(node, number, code, text))
            if results[-1].ready or results[-1].status != "ok":
                break
        feedback = prompt.outputs(results, len(reply.cells), SHOWN)
        did = [(code, each.output) for code, each in zip(reply.cells, results, strict=False)]
        repeated, self._did = did == self._did, did
        if not results[-1].ready:
            return feedback.for_now(prompt.REPEATED) if repeated else feedback, False
        ran = [each.edited or code for code, each in zip(reply.cells, results, strict=False)]
        refusal = self._acceptance.refuse(self.iterations, ran, results[-1].answer)
        if refusal is None:
            return feedback, True
        self._refused = True
        self._notice(node, refusal.notice)
        return feedback.and_also(refusal.told), False

    async def _cell(
        self, node: str, number: int, code: str, reply: str, sure: Sure | None = None
    ) -> CellResult:
        decision = APPROVED
        if sure is None:
            await self._steering.gate(node)
            decision = self._decided(node, number) or await self._steering.approval(
                node, number, code
            )
        if decision.kind == "reject":
            result = rejected(decision.reason)
        else:
            async with self.floor:
                result = await self._run_cell(node, number, code, decision, reply, sure)
            program = self._calls.program
            if program and (doubt := program.ran(node, number, result, SHOWN)):
                self._calls.tell_doubt(node, doubt)
        # A cell that never happened has not heard of the refusal.
        self._refused = self._refused and result.status not in ("ok", "error")
        self.on_cell(result)
        self.best = result.answer or self.best
        self._emitter.emit(
            CellDone,
            node,
            cell=number,
            status=result.status,
            error=result.error,
            seconds=result.seconds,
            output_characters=result.output_characters,
            kept=result.kept,
            undone=result.undone,
            in_vain=result.in_vain,
            early=sure is not None,
        )
        if self.stopping:
            raise asyncio.CancelledError
        if not result.ready:
            self._ledger.check_time()
        return result

    def _decided(self, node: str, number: int) -> Decision | None:
        """What a person has decided already about a cell: by the record, or by writing it."""
        if (program := self._calls.program) and program.by_person(node):
            return APPROVED
        if (replay := self._calls.replay) is None:
            return None
        if done := replay.rejected(node, number):
            return Decision("reject", reason=done.error)
        if past := replay.begun(node, number):
            started = past.started
            return Decision("edit", code=started.code) if started.edited else APPROVED
        return None

    async def _run_cell(
        self,
        node: str,
        number: int,
        code: str,
        decision: Decision,
        reply: str,
        sure: Sure | None,
    ) -> CellResult:
        edited = decision.kind == "edit"
        code = decision.code if edited else code
        shown = clip(code, MAX_EVENT_TEXT)
        started = self._emitter.emit(CellStarted, node, cell=number, code=shown, edited=edited)
        self._running = True
        if sure is None:
            self._enter()
        else:
            sure.add_done_callback(lambda sure: self._enter() if sure.result() else None)
        replay = self._calls.replay
        past = replay.begun(node, number) if replay else None
        try:
            result = await self._run_code(node, number, code, reply, started.time, sure)
        finally:
            self._running = self._in_cell = False
            if past is not None:
                self._calls.count_unasked(past)
        assert self.repl is not None
        result.number, result.edited = self.repl.cells, code if edited else ""
        return result

    def _enter(self) -> None:
        """A cell runs that can be stopped, and whose time counts."""
        self._in_cell, self._cell_began = True, self._ledger.seconds
        if self._steering.clock.held:  # after the cell has been told how long it may take
            asyncio.get_running_loop().call_soon(self.follow_limits)

    async def _run_code(
        self, node: str, number: int, code: str, reply: str, now: float, sure: Sure | None
    ) -> CellResult:
        assert self.repl is not None
        run = partial(self.repl.run, code, reply=reply, refused=self._refused, now=now, show=SHOWN)
        if (replay := self._calls.replay) and (past := replay.cell(node, number)):
            return await run_again(self.repl, run, past, replay, self._notice, SHOWN)
        return await run(
            batching=self._calls.batching(
                node, partial(self._notice, node, level="info"), self.profile.most_calls
            ),
            sure=sure,
            timeout=self._cell_seconds(),
            on_output=lambda stream, text: self._emitter.stream(
                Output, node, text, cell=number, stream=stream
            ),
        )

    def _cell_seconds(self) -> float | None:
        """What a cell that begins now may take; None while the clock stands still."""
        if self._steering.clock.held:
            return None
        return min(self._ledger.limits.cell_seconds, max(LEAST_SECONDS, self._ledger.seconds_left))

    def _notice(
        self, node: str, text: str, *, level: Literal["info", "warning"] = "warning"
    ) -> None:
        self._emitter.emit(Notice, node, level=level, text=text)
