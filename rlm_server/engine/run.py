"""A run: a question from its start to its end, whatever ends it, and further ones after it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import zlib
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rlm_server import __version__
from rlm_server.config import Config
from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus
from rlm_server.context.store import Store
from rlm_server.engine.calls import Calls, account_of, run_error
from rlm_server.engine.child import Children, Place
from rlm_server.engine.clock import Clock
from rlm_server.engine.coverage import Coverage
from rlm_server.engine.direct import Direct
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.ending import GRACE_SECONDS, End, end_of
from rlm_server.engine.ledger import Ledger, LimitReached
from rlm_server.engine.loop import Loop, QuestionOver
from rlm_server.engine.namespace import Namespace
from rlm_server.engine.notes import chosen, told
from rlm_server.engine.offer import Offer
from rlm_server.engine.past import Past, Rerun
from rlm_server.engine.prompt import earlier, further
from rlm_server.engine.similar import Question
from rlm_server.engine.speculation import Speculation
from rlm_server.engine.speech import Speech
from rlm_server.engine.steering import Steering
from rlm_server.engine.telling import tell_answer
from rlm_server.engine.typed import AnswerType
from rlm_server.errors import BusyError, EndedError, LogError, SandboxError
from rlm_server.models import Models
from rlm_server.models.cache.semantic import Similar
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    AskParams,
    ContextProgress,
    ContextReady,
    Evidence,
    ExecResult,
    FollowUp,
    FollowUpOptions,
    Isolation,
    KeptOverlay,
    KeptSource,
    LimitOverrides,
    Limits,
    LimitsChanged,
    Notice,
    RunEnded,
    RunStarted,
)
from rlm_server.runs.log import RunLog
from rlm_server.sandbox import Repl
from rlm_server.text import clip
from rlm_server.tools import Toolbox

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """The sources of a run as its log has them."""

    sources: list[KeptSource] = field(default_factory=list)
    overlays: list[KeptOverlay] = field(default_factory=list)
    question: str = ""
    """Hash of a question too long for an event."""


class Run:
    """A question, and what is asked further. Its tasks never raise; what goes wrong is an event."""

    def __init__(
        self,
        run_id: str,
        params: AskParams,
        *,
        config: Config,
        models: Models,
        isolation: Isolation,
        log: RunLog,
        directory: Path,
        store: Store | None = None,
        kept: Kept | None = None,
        past: Past | None = None,
        rerun: Rerun | None = None,
        toolbox: Toolbox | None = None,
        rest: bool = False,
    ) -> None:
        """Prepare a run with its files in ``directory``, and its corpus there or in ``store``.

        ``kept`` is what the log shall say of the sources, ``past`` what it has of the run already,
        ``rerun`` the run whose program is run. With ``rest``, a run that has ended keeps its REPL
        for further questions until it is closed. Raises UnknownModelError.
        """
        self.run_id = run_id
        self.log = log
        self.ended: RunEnded | None = None
        """The end of its last question, also where the log could not take it."""
        self._params = params
        self._config = config
        self._models = models
        self._isolation = isolation
        self._directory = directory
        self._store = store
        self._kept = kept or Kept()
        self._rest = rest
        self._root = models.resolve(params.options.root_model, default=models.root)
        default_sub = models.sub if params.options.root_model is None else self._root
        self._sub = models.resolve(params.options.sub_model, default=default_sub)
        self._emitter = Emitter(run_id, log, on_failure=self._log_failed)
        schema = params.options.schema
        self._answer_type = AnswerType(schema) if schema is not None else None
        clock = Clock()
        clock.on_change = self._follow_limits
        self.steering = Steering(self._emitter, clock, approve=params.options.approve)
        self._ledger = Ledger(merge_limits(config.limits, params.options.limits), clock)
        self.account = account_of(run_id, params)
        self._past = past
        self._rerun = rerun
        deeper = [] if params.options.sub_model else config.depth_sub_models
        subs = [self._sub, *(models.resolve(name, default=self._sub) for name in deeper)]
        self._offer = Offer(toolbox, self._emitter)
        self._calls = Calls(
            self._emitter,
            self._ledger,
            models,
            self.steering,
            subs=subs,
            account=self.account,
            offer=self._offer,
        )
        self._calls.speculation = Speculation.of(config, params.options)
        self._max_depth = params.options.max_depth or config.max_depth
        names = config.depth_models or [self._sub]
        self._depth_models = [models.resolve(name, default=self._sub) for name in names]
        names = [self._root, *subs, *self._depth_models]
        self._speech = Speech(config.profiles, models, subs, params.options.profile)
        system = self._speech.system(self._root)
        tools = str([*config.tools, *config.mcp])
        self._question = Question(
            params, models, self._emitter, names, self._max_depth, system, tools, self._calls.embed
        )
        self._asked = params.question
        self._answered: list[tuple[str, str]] = []
        self._seed = zlib.crc32(run_id.encode())
        self._notes = [] if params.options.no_notes else chosen(params.question, config.notes)
        if past is not None:
            self._seed, self._notes = past.seed, past.notes()
            past.prepare(self._emitter, self._ledger, self._calls)
        if rerun is not None:
            self._calls.program = rerun.program
        self._similar: Similar | None = None
        self._children: Children | None = None
        self._coverage = Coverage()
        self._corpus: Corpus | None = None
        self._loop: Loop | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Timeout | None = None
        self._log_error: LogError | None = None
        self._stopping = False
        self._at_rest = contextlib.ExitStack()
        self._users_cells = 0
        """Of the user's own that were asked for while it rests."""
        self._last_resort: asyncio.TimerHandle | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin; the task ends when the run has ended. Raises LogError."""
        if self._past is not None:
            self._past.announce(self._emitter, self._root, self._sub, self._isolation.mode)
        else:
            self._tell_start()
        return self._begin(self._work())

    def _tell_start(self) -> None:
        self._emitter.emit(
            RunStarted,
            question=clip(self._params.question, MAX_EVENT_TEXT),
            root_model=self._root,
            sub_model=self._sub,
            limits=self._ledger.limits,
            max_depth=self._max_depth,
            server_version=__version__,
            isolation=self._isolation.mode,
            isolation_limits=self._isolation.limits,
            project=self._params.project,
            profile=self._speech.profile(self._root).name,
            sources=self._kept.sources,
            overlays=self._kept.overlays,
            options=self._params.options,
            question_hash=self._kept.question,
            seed=self._seed,
            rerun_of=self._rerun.run_id if self._rerun else None,
            notes=self._notes,
        )

    def follow_up(
        self, question: str, options: FollowUpOptions, kept: str = ""
    ) -> asyncio.Task[None]:
        """Begin with a further question, which is answered where the last one ended.

        ``kept`` is by what a long one is found again. Only for a run that rests. Raises
        UnknownModelError, LogError.
        """
        root = self._models.resolve(options.root_model, default=self._root)
        sub = self._models.resolve(options.sub_model, default=self._sub)
        self.log.claim()
        self._at_rest.close()
        limits = merge_limits(self._ledger.limits, options.limits)
        self._turn_to(question, root, sub, limits, options.schema)
        if options.approve is not None:
            self.steering.approving = options.approve
        self.ended, self._timer, self._stopping = None, None, False
        self._emitter.emit(
            FollowUp,
            question=clip(question, MAX_EVENT_TEXT),
            root_model=self._root,
            sub_model=self._sub,
            limits=self._ledger.limits,
            question_hash=kept,
            schema=options.schema,
            approve=self.steering.approving,
        )
        return self._begin(self._work_on())

    def _turn_to(
        self, question: str, root: str, sub: str, limits: Limits, schema: dict[str, Any] | None
    ) -> None:
        """Make another question the one that is answered."""
        self._root, self._asked = root, question
        self._similar = self._rerun = None
        if sub != self._sub:
            self._sub, self._calls.subs = sub, [sub]
        self._ledger.begin_question(limits)
        self._answer_type = AnswerType(schema) if schema is not None else None
        if self._loop is not None:
            self._loop.begin_question(root, self._speech.profile(root), self._answer_type)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        if self._log_error is not None:
            work.close()
            raise self._log_error
        self._task = asyncio.create_task(self._run(work), name=f"run {self.run_id}")
        return self._task

    @property
    def rests(self) -> bool:
        """Whether it has ended and can be asked further."""
        return self._rest and self.ended is not None and self._corpus is not None

    @property
    def busy(self) -> bool:
        """Whether code runs in its REPL."""
        return self._loop is not None and self._loop.busy

    @property
    def next_seq(self) -> int:
        """Number of its next event."""
        return self._emitter.next_seq

    async def settle(self) -> int:
        """End what its code has left running; return the bytes of memory that its REPL uses."""
        if self._loop is None or self._loop.repl is None or self.busy:
            return 0
        async with self._loop.floor:
            try:
                return await self._loop.repl.settle()
            except SandboxError:
                return 0  # it is gone, or will be with the next look

    def cancel(self, node: str | None) -> bool:
        """Stop the whole run, a child run, or the cell that runs in an iteration or by the user."""
        if node is not None and node != "0":
            return self._children is not None and self._children.cancel(node)
        if self._task is None or self._stopping or self._task.done():
            return False
        self._stop()
        return True

    def note(self, node: str, text: str) -> None:
        """Have the model told something with its next message. Raises EndedError."""
        if node != "0" and (self._children is None or self._children.loop(node) is None):
            raise EndedError(
                f"There is no child run at {node[:100]!r} now.", cure="Give the run itself a note."
            )
        self.steering.note(node, text)

    def namespace(self, node: str = "0") -> Namespace:
        """The variables of the run or a child run. Raises BusyError where there are none now."""
        loop = self._children.loop(node) if self._children else None
        if loop is None or loop.repl is None:
            raise BusyError(
                f"There is no REPL at {node[:100]!r} now.",
                cure="Wait until its model has been asked; child runs end with their question.",
            )
        return Namespace(loop, self._emitter, self.steering, self._ledger)

    async def execute(self, node: str, code: str) -> ExecResult:
        """Run code of the user's own. Raises BusyError, SandboxError, LogError."""
        namespace = self.namespace(node)
        if self.ended is None:
            return await namespace.execute(code)
        self.log.claim()
        rested_since, seq = self.ended, self.next_seq
        self._users_cells += 1
        try:
            return await namespace.execute(code)
        finally:
            self._users_cells -= 1
            if self.ended is rested_since and not (self._users_cells or self.log.closed):
                if self.next_seq != seq:  # it may have cost something
                    self._calls.finish()
                    self._tell_end(rested_since)
                self.log.release()

    async def over(self) -> None:
        """Wait until the run has ended, whatever ends it."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def set_limits(self, overrides: LimitOverrides) -> bool:
        """Change limits while the run goes on; False where it has ended."""
        if self._task is None or self._stopping:
            return False
        self._ledger.limits = merge_limits(self._ledger.limits, overrides)
        node = self._loop.current if self._loop and self._loop.iterations else "0"
        self._emitter.emit(LimitsChanged, node, limits=self._ledger.limits)
        self._follow_limits()
        return True

    def _follow_limits(self) -> None:
        """Set timers anew after limits were changed, or the clock was stopped or set going."""
        if self._timer is not None and not (self._stopping or self._timer.expired()):
            left = max(0.0, self._ledger.seconds_left) + GRACE_SECONDS
            held = self.steering.clock.held
            self._timer.reschedule(None if held else asyncio.get_running_loop().time() + left)
        if self._children is not None:
            self._children.follow_limits()

    async def _run(self, work: Coroutine[None, None, None]) -> None:
        try:
            self._timer = asyncio.timeout(self._ledger.seconds_left + GRACE_SECONDS)
            end = await end_of(work, self._timer, self._ledger)
            if self._similar:
                end.reason = "The answer to a similar question was kept."
            self._stopping = True
            if self._last_resort is not None:
                self._last_resort.cancel()
            self.steering.finish()
            if not self._rest:
                await self._close_repl()
            if self._past is not None and self._past.revive and end.status == "done":
                self._emitter.replay = self._calls.replay = None
                self.ended, self._past = self._past.record.ended, None
            else:
                await self._finish(end)
        finally:
            self._rest = self._rest and self._log_error is None
            if self.rests:
                self.log.release()
                self._at_rest.enter_context(self.steering.clock.hold())
            else:
                await self.close()

    async def close(self) -> None:
        """End its REPL, close its log, and remove its files; it can't be asked further then."""
        self._rest = False
        await self._close_repl()
        self.log.close()
        # Gigabytes take a while to be removed.
        await asyncio.to_thread(self._clear)

    async def _close_repl(self) -> None:
        if self._loop is not None and self._loop.repl is not None:
            try:
                await self._loop.repl.close()
            except Exception:
                logger.exception("the REPL of run %s did not close", self.run_id)

    def _clear(self) -> None:
        """Remove the corpus and whatever child runs have left beside it."""
        if self._corpus is not None:
            self._corpus.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _work(self) -> None:
        self._check_models()
        self._corpus = corpus = await self._build_corpus()
        if self._past is None and self._rerun is None:
            self._similar = await self._question.find(corpus)
        if self._similar:
            return
        if self._past is not None and (self._past.revive or self._past.record.further):
            await self._work_through(self._past, corpus)
        else:
            await self._question.keep(corpus, await self._converse(corpus))

    async def _work_through(self, past: Past, corpus: Corpus) -> None:
        """Go through the questions of the record; the last goes on, unless it has ended too."""
        replay = self._calls.replay
        assert replay is not None
        work: Awaitable[object] = self._converse(corpus)
        for question in past.record.further:
            with contextlib.suppress(QuestionOver, LimitReached):
                await work
            replay.bounds.popleft()
            self._count_on(question.after)
            self._answered.append((self._asked, question.answered))
            event = question.event
            goes_on = question is past.record.further[-1] and not past.revive
            limits = past.limits if goes_on else event.limits
            models = (event.root_model, event.sub_model)
            self._turn_to(question.text, *models, limits, event.schema)
            if event.approve is not None:
                self.steering.approving = event.approve
            if goes_on:
                self._ledger.spent = replay.unaccounted(question)
                self._ledger.go_on(past.record.seconds - question.seconds, question.seconds)
                self._follow_limits()
            work = self._work_on()
        if not past.revive:
            await work
            return
        with contextlib.suppress(QuestionOver, LimitReached):
            await work
        self._count_on(past.record.last_iteration())
        self._answered.append((self._asked, past.record.answer))
        if self._loop is not None:
            await self._loop.replay_users_cells()

    def _count_on(self, iterations: int) -> None:
        """Number iterations on from so many, also where the last of them had no whole reply."""
        if self._loop is not None:
            self._loop.iterations = max(self._loop.iterations, iterations)

    async def _work_on(self) -> None:
        """Answer a further question; from the beginning, where there is no namespace yet."""
        self._check_models()
        assert self._corpus is not None
        if self._loop is None:
            await self._converse(self._corpus)
        elif self._loop.repl is None:
            await self._answer_by_code(self._loop, self._corpus)
        else:
            variables = await self.namespace().listed()
            task = self._answer_type.task() if self._answer_type else ""
            await self._loop.run_further(further(self._asked, self._answered, variables, task))

    def _check_models(self) -> None:
        self._models.check(self._root)
        self._models.check(self._sub)

    async def _converse(self, corpus: Corpus) -> str:
        """Have a new loop answer the question."""
        self._loop = loop = Loop(
            self._emitter,
            self._calls,
            self._ledger,
            node="0",
            model=self._root,
            profile=self._speech.profile(self._root),
            answer_type=self._answer_type,
            steering=self.steering,
        )
        self._children = children = self._make_children()
        children.add(loop)
        answer = await self._direct(loop).answer(loop, self._asked, corpus)
        return await self._answer_by_code(loop, corpus) if answer is None else answer

    def _direct(self, loop: Loop) -> Direct:
        return Direct(
            self._emitter,
            self._calls,
            self._ledger,
            self._coverage,
            wanted=self._params.options.direct,
            before=self._past.direct() if self._past else None,
            window=self._models.window(loop.model),
            answer_type=self._answer_type,
        )

    async def _answer_by_code(self, loop: Loop, corpus: Corpus) -> str:
        assert self._children is not None
        children, place = self._children, Place(loop, corpus, 0)
        loop.on_cell = lambda result: self._coverage.cell(corpus, result)
        self._coverage.opened(corpus)
        await self._offer.find()
        self._speech.beside = self._offer.told
        loop.repl = await Repl.start(
            corpus,
            config=self._config.sandbox,
            on_call=lambda call: children.on_call(place, call),
            tools=self._offer.stubs,
            seed=self._seed,
        )
        task = self._answer_type.task() if self._answer_type else ""
        task = "\n\n".join(filter(None, (task, self._advice())))
        history = self._speech.begin(self._root, self._asked, corpus, task=task)
        if self._answered:
            history.say(earlier(self._answered))
        loop.opening = history.digest()
        if self._past is not None:
            self._past.compare(self._emitter, loop.opening, self._root)
        return await loop.run(loop.repl, history)

    def _advice(self) -> str:
        """What earlier runs have taught for such questions, as far as it is accepted; told."""
        if self._notes and self._past is None:
            text = f"Strategy notes are used: {' '.join(self._notes)}"
            self._emitter.emit(Notice, level="info", text=text)
        return told(self._notes)

    def _make_children(self) -> Children:
        return Children(
            self._config,
            self._emitter,
            self._ledger,
            self._calls,
            self._models,
            self._speech,
            max_depth=self._max_depth,
            depth_models=self._depth_models,
            steering=self.steering,
            directory=self._directory,
            coverage=self._coverage,
            seed=self._seed,
        )

    async def _build_corpus(self) -> Corpus:
        corpus = (self._past and self._past.corpus) or await build_corpus(
            self._params.sources,
            self._params.overlays,
            directory=self._directory,
            config=self._config.context,
            on_progress=self._tell_progress,
            store=self._store,
        )
        self._coverage.begin(corpus)
        self._emitter.emit(
            ContextReady,
            documents=len(corpus.documents),
            bytes=corpus.bytes,
            characters=corpus.characters,
            tokens=corpus.bytes // 4,
            hash=corpus.hash,
            left_out=corpus.left_out[:100],
            left_out_counts=corpus.left_out_counts,
        )
        return corpus

    def _tell_progress(self, documents: int, size: int) -> None:
        self._emitter.emit(ContextProgress, documents=documents, bytes=size)

    async def _finish(self, end: End) -> None:
        """Tell the answer, such as it is, and the end."""
        self._calls.finish()
        if self._log_error is not None:
            end = End("failed", str(self._log_error), run_error(self._log_error))
        done = end.status == "done"
        text = self._similar.answer if self._similar else ""
        if self._loop:
            text = self._loop.best or ("" if done else self._loop.last_prose)
        if text or done:
            await tell_answer(
                self._emitter,
                text,
                partial=not done,
                corpus=self._corpus,
                answer_type=self._answer_type,
                examine=self._examine,
            )
        if self._rerun is not None and (text or done):
            self._rerun.compare(self._emitter, text)
        self._answered.append((self._asked, text or end.reason))
        # Who is told of the end may ask again at once, or another server.
        await self._models.flush()
        self._tell_end(end)

    def _tell_end(self, end: End | RunEnded) -> None:
        self.ended = self._emitter.emit(
            RunEnded,
            status=end.status,
            reason=end.reason,
            error=end.error,
            usage=self._ledger.usage,
            iterations=self._loop.iterations if self._loop else 0,
            subcalls=self._ledger.subcalls_started,
            seconds=self._ledger.all_seconds,
        )

    def _examine(self, answer: str, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """What an answer is drawn from, as the fields of its event. Blocks."""
        kept = self._similar is not None
        return self._coverage.provenance(answer, self._asked, evidence, kept=kept)

    def _log_failed(self, error: LogError) -> None:
        """The log takes no more: stop, since what isn't logged isn't shown."""
        self._log_error = error
        # Not at once: this may be the very task that is to be cancelled, at its last step.
        asyncio.get_running_loop().call_soon(self._stop)

    def _stop(self) -> None:
        """Cancel the work, once: what follows it must not be cancelled too.

        A running cell is interrupted first, so that an answer which it has set is not lost.
        """
        if self._task is None or self._stopping:
            return
        self._stopping = True
        if self._loop is not None and self._loop.interrupt():
            self._loop.stopping = True
            event_loop = asyncio.get_running_loop()
            self._last_resort = event_loop.call_later(GRACE_SECONDS, self._task.cancel)
        else:
            self._task.cancel()


def merge_limits(configured: Limits, asked: LimitOverrides) -> Limits:
    """The configured limits, with those of the question in their place."""
    given = msgspec.structs.asdict(asked).items()
    return msgspec.structs.replace(configured, **{k: v for k, v in given if v is not None})
