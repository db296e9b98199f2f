"""The engine as doors see it: starts runs, cancels them, follows and lists them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from rlm_server.config import Config, cache_dir, state_dir
from rlm_server.context.build import measure
from rlm_server.context.store import open_store
from rlm_server.engine.durable import Durable
from rlm_server.engine.ledger import Price
from rlm_server.engine.past import Past, Rerun
from rlm_server.engine.profile import Profiles
from rlm_server.engine.reflect import Reflection
from rlm_server.engine.resting import Resting
from rlm_server.engine.run import Kept, Run, merge_limits
from rlm_server.errors import (
    BusyError,
    ClosingError,
    EndedError,
    ExportError,
    NotRestingError,
    RlmError,
    UnknownRunError,
)
from rlm_server.models import Models
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    AskParams,
    Estimate,
    EstimateParams,
    ExportParams,
    ExportResult,
    FollowUpParams,
    LimitOverrides,
    Mark,
    MarkParams,
    RunsParams,
    RunsResult,
    RunSummary,
)
from rlm_server.runs.chain import numbers
from rlm_server.runs.export import export_to
from rlm_server.runs.index import Index
from rlm_server.runs.log import RunLog, follow, in_use
from rlm_server.runs.marks import Marks
from rlm_server.runs.place import RUN_ID, log_path, new_run_id
from rlm_server.runs.retention import Retention
from rlm_server.runs.summary import summarise
from rlm_server.runs.texts import Texts
from rlm_server.sandbox import choose, prepare
from rlm_server.text import clean, to_json
from rlm_server.tools import Toolbox

BYTES_A_TOKEN = 4
"""For estimates shown before a run."""


class Engine:
    """All runs of one server."""

    def __init__(self, config: Config, models: Models) -> None:
        """Raises ConfigError for profiles and tools that can't be used."""
        self.config = config
        Profiles(config.profiles)
        self.models = models
        self.toolbox = Toolbox(config)
        self.log_directory = state_dir() / "runs"
        self._texts = Texts(state_dir() / "texts")
        self._index = Index(self.log_directory, state_dir() / "runs.db")
        self._retention = Retention(self._index, self._texts)
        self._contexts = cache_dir() / "contexts"
        self._mark = secrets.token_hex(4)
        self.store = open_store(config.context)
        self._marks = Marks(state_dir() / "marks.jsonl")
        self.reflection = Reflection(models, self._marks, self.log_directory)
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resting = Resting(config.sandbox)
        self._closing = False
        self.durable = Durable(self, self._texts)
        """Lets past runs go on."""

    async def warm(self) -> None:
        """Get the parts ready that take a while, so that the first question need not wait.

        Never raises: what fails here fails again, with its message, where it is needed.
        """
        await asyncio.to_thread(self._clear_contexts)
        with contextlib.suppress(RlmError):
            await prepare(self.config.sandbox)
        await self.models.prepare()
        await asyncio.to_thread(self._index.refresh)

    async def ask(self, params: AskParams) -> Run:
        """Start a run. Raises UnknownModelError, LogError, SandboxError."""
        kept = await asyncio.to_thread(self.keep, params)
        run_id = new_run_id()
        return await self.launch(run_id, params, self.new_log(run_id), kept=kept)

    async def launch(
        self,
        run_id: str,
        params: AskParams,
        log: RunLog,
        *,
        kept: Kept | None = None,
        past: Past | None = None,
        rerun: Rerun | None = None,
    ) -> Run:
        """Start a run, or let a past one go on. Raises UnknownModelError, LogError, SandboxError.

        Where that fails, the log is closed; it is removed if nothing is in it.
        """
        try:
            await self.models.look_around()
            isolation = await choose(self.config.sandbox)
            self._check_open()
            run = Run(
                run_id,
                params,
                config=self.config,
                models=self.models,
                isolation=isolation,
                log=log,
                directory=self.directory(run_id),
                store=self.store,
                kept=kept,
                past=past,
                rerun=rerun,
                toolbox=self.toolbox,
                rest=self.config.sandbox.resting > 0,
            )
            task = run.start()
        except BaseException:
            log.close()
            if log.size == 0:
                log.path.unlink()
            raise
        self._watch(run, task)
        return run

    def new_log(self, run_id: str) -> RunLog:
        """Begin a run's log. Raises LogError."""
        return RunLog(log_path(self.log_directory, run_id))

    def directory(self, run_id: str) -> Path:
        """Where a run has its files, while it is live or rests.

        Not shared with another server, which may resume a run that rests here.
        """
        return self._contexts / f"{run_id}-{self._mark}"

    async def settle(self, run_id: str) -> None:
        """Wait until a run that has told its end rests or is gone; at once for all others.

        Clients are told of the end before the last files are closed, and may be fast.
        """
        run = self._runs.get(run_id)
        if run is not None and run.ended is not None:
            await asyncio.wait({self._tasks[run_id]})

    async def follow_up(self, params: FollowUpParams) -> tuple[Run, int]:
        """Ask a run that rests a further question; return it, and the number of its next event.

        Raises BusyError while it is at another one, NotRestingError, UnknownRunError,
        UnknownModelError, LogError.
        """
        asked = (params.question, MAX_EVENT_TEXT, params.run_id)
        kept = await asyncio.to_thread(self._texts.keep_further, *asked)
        self._check_open()
        if params.run_id in self._runs:
            raise BusyError(
                "The run is still at its last question.",
                cure="Wait for its end, cancel it, or give it a note.",
            )
        run = self.steered(params.run_id)
        seq = run.next_seq
        task = run.follow_up(params.question, params.options, kept)
        self._resting.take(params.run_id)
        self._watch(run, task)
        return run, seq

    def steered(self, run_id: str) -> Run:
        """A run that is live or rests. Raises NotRestingError, UnknownRunError."""
        if run := self._runs.get(run_id) or self._resting.get(run_id):
            return run
        self.path(run_id)
        raise NotRestingError(
            "The run has ended, and its variables are no longer kept.",
            cure="Ask the question anew. How many runs are kept, and how long, is set by resting "
            "and rest-seconds in [sandbox].",
        )

    def live(self, run_id: str) -> Run:
        """A run that is live. Raises EndedError, UnknownRunError."""
        if run := self._runs.get(run_id):
            return run
        self.path(run_id)
        raise EndedError("The run has ended.", cure="Ask it a further question.")

    def resting(self, run_id: str) -> Run | None:
        """A run that rests."""
        return next((run for run in self._resting if run.run_id == run_id), None)

    async def dismiss(self, run_id: str) -> None:
        """Let the variables of a run go, if it rests, whatever it does."""
        await self._resting.dismiss(run_id)

    def resting_runs(self) -> list[str]:
        """Ids of the runs that rest, the last used one last."""
        return [run.run_id for run in self._resting]

    @property
    def resting_memory(self) -> int:
        """Bytes that the variables of runs that rest take."""
        return self._resting.memory

    def _watch(self, run: Run, task: asyncio.Task[None]) -> None:
        """Know a run as live until its task has ended, and let it rest then if it can."""

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[run.run_id], self._runs[run.run_id]
            if run.rests:
                self._resting.add(run)

        self._runs[run.run_id] = run
        self._tasks[run.run_id] = task
        task.add_done_callback(ended)

    def _check_open(self) -> None:
        if self._closing:
            raise ClosingError("The server is stopping.", cure="Ask again; it is started anew.")

    def cancel(self, run_id: str, node: str | None) -> bool:
        """Stop a run or a cell; False where it had ended. Raises UnknownRunError."""
        if run := self._runs.get(run_id) or self._resting.get(run_id):
            return run.cancel(node)
        self.path(run_id)
        return False

    def set_limits(self, run_id: str, limits: LimitOverrides) -> bool:
        """Change a run's limits; False where it had ended. Raises UnknownRunError."""
        if run := self._runs.get(run_id):
            return run.set_limits(limits)
        self.path(run_id)
        return False

    async def estimate(self, params: EstimateParams) -> Estimate:
        """Say what a question would read and could cost. Raises SourceError, UnknownModelError."""
        await self.models.look_around()
        measured = await measure(params.sources, params.overlays, config=self.config.context)
        options = params.options
        root = self.models.resolve(options.root_model, default=self.models.root)
        default_sub = self.models.sub if options.root_model is None else root
        sub = self.models.resolve(options.sub_model, default=default_sub)
        tokens = measured.bytes // BYTES_A_TOKEN
        return Estimate(
            documents=measured.documents,
            bytes=measured.bytes,
            tokens=tokens,
            left_out=measured.left_out_counts,
            root_model=root,
            sub_model=sub,
            free=self.models.free(root) and self.models.free(sub),
            cost=Price(*self.models.price(sub)).of(tokens, 0),
            cost_limit=merge_limits(self.config.limits, options.limits).cost,
        )

    def summary(self, run_id: str) -> RunSummary:
        """Summarise a run, live or past. Raises UnknownRunError."""
        path = self.path(run_id)
        summary = summarise(path, live=self.is_live(run_id) or in_use(path))
        if summary is None:
            raise _unknown(run_id)
        return summary

    async def runs(self, wanted: RunsParams) -> RunsResult:
        """Summarise the newest runs that match, newest first."""
        live = {run_id for run_id in self._runs if self.is_live(run_id)}
        found = await asyncio.to_thread(self._index.find, wanted, live)
        marks = await asyncio.to_thread(self._marks.all)
        for run in found.runs:
            run.mark = marks.get(run.run_id)
        return found

    async def delete(self, run_id: str) -> int:
        """Remove a run's log; give the bytes freed. Raises UnknownRunError, LogError."""
        path = self.path(run_id)
        await asyncio.to_thread(self._retention.check, path)  # before its variables go
        await self._resting.dismiss(run_id)
        return await asyncio.to_thread(self._retention.remove, path)

    async def export(self, params: ExportParams) -> ExportResult:
        """Write a run to a file in another form. Raises UnknownRunError, ExportError."""
        log, path = self.path(params.run_id), Path(params.path)
        if not path.is_absolute():
            raise ExportError(f"{path} is no absolute path.", cure="Name the whole path.")
        size = await asyncio.to_thread(export_to, log, params.format, path)
        return ExportResult(path=str(path), bytes=size)

    async def mark(self, params: MarkParams) -> Mark | None:
        """Note what a person thinks of a run. Raises UnknownRunError, LogError."""
        self.path(params.run_id)
        return await asyncio.to_thread(
            self._marks.set, params.run_id, params.good, clean(params.reason.strip())
        )

    def live_runs(self) -> list[RunSummary]:
        """Summarise the live runs."""
        return [self.summary(run_id) for run_id in self._runs]

    async def last_seq(self, run_id: str) -> int:
        """Number of a run's last event so far. Raises UnknownRunError."""
        return (await asyncio.to_thread(numbers, self.path(run_id))).last

    def is_live(self, run_id: str) -> bool:
        """Whether the run is still going on."""
        run = self._runs.get(run_id)
        return run is not None and run.ended is None

    async def follow(self, run_id: str, from_seq: int) -> AsyncGenerator[bytes, None]:
        """Yield a run's events as JSON, from a number on, until it ends. Raises UnknownRunError."""
        run = self._runs.get(run_id) or self._resting.get(run_id)
        ended = False
        with run.account.watched() if run else contextlib.nullcontext():
            async for line in follow(self.path(run_id), run.log if run else None, from_seq):
                if line.startswith((b'{"kind":"runEnded"', b'{"kind":"followUp"')):
                    ended = line.startswith(b'{"kind":"runEnded"')
                yield line
        if run and run.ended and not ended:
            # The log could not take the end (a full disk), but the person must be told.
            yield to_json(run.ended)

    async def close(self) -> None:
        """Cancel all runs, wait for their ends, and close all connections."""
        self._closing = True
        for run in list(self._runs.values()):
            run.cancel(None)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._resting.close()
        await self.toolbox.close()
        await self.models.close()

    def keep(self, params: AskParams) -> Kept:
        """Keep the texts that came with a question. Blocks; raises LogError."""
        sources = self._texts.keep_sources(params.sources)
        overlays = self._texts.keep_overlays(params.overlays)
        return Kept(sources, overlays, self._texts.keep_question(params.question, MAX_EVENT_TEXT))

    def _clear_contexts(self) -> None:
        """Remove what servers that were killed have left of prepared contexts.

        Only directories older than a day: another server's run may be using a younger one.
        """
        for directory in self._contexts.glob("*"):
            with contextlib.suppress(OSError):  # another server may be faster
                if time.time() - directory.stat().st_mtime > 86_400:
                    shutil.rmtree(directory, ignore_errors=True)
        if self.store is not None:
            self.store.tidy()

    def path(self, run_id: str) -> Path:
        """Where a run's log is. Raises UnknownRunError."""
        path = log_path(self.log_directory, run_id)
        if not RUN_ID.fullmatch(run_id) or not path.exists():
            raise _unknown(run_id)
        return path


def _unknown(run_id: str) -> UnknownRunError:
    return UnknownRunError(
        f"There is no run {run_id[:40]!r}.", cure="List the runs with rlm/runs or M-x rlm-open-run."
    )
