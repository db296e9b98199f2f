"""Past runs that are asked to go on: resumed where they stopped, forked, or run again."""

from __future__ import annotations

import asyncio
import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus
from rlm_server.engine.past import Fork, Past, Rerun
from rlm_server.engine.places import Moved, places_of
from rlm_server.engine.program import Program
from rlm_server.engine.reply import ReplyParser
from rlm_server.engine.run import Run, merge_limits
from rlm_server.engine.watching import OnChange, Watch
from rlm_server.errors import BusyError, ContextChangedError, NotResumableError
from rlm_server.protocol import (
    AskOptions,
    AskParams,
    FollowUp,
    ForkParams,
    LimitOverrides,
    Limits,
    LimitsChanged,
    Overlay,
    RerunParams,
    ResumeParams,
    RunEnded,
    RunResumed,
    Source,
    WatchParams,
)
from rlm_server.runs.chain import events_of, numbers
from rlm_server.runs.log import RunLog
from rlm_server.runs.place import new_run_id
from rlm_server.runs.recorded import Record
from rlm_server.runs.texts import Texts

if TYPE_CHECKING:
    from rlm_server.engine.service import Engine


class Durable:
    """Lets past runs of an engine go on."""

    def __init__(self, engine: Engine, texts: Texts) -> None:
        self._engine = engine
        self._texts = texts

    async def resume(self, params: ResumeParams) -> Run:
        """Let a run go on that was cut short.

        Raises UnknownRunError, NotResumableError, ContextChangedError, SourceError, LogError,
        UnknownModelError, SandboxError, BusyError.
        """
        await self._engine.settle(params.run_id)
        if self._engine.is_live(params.run_id):
            raise NotResumableError("The run is going on.", cure="Watch it with rlm-open-run.")
        if resting := self._engine.resting(params.run_id):
            _refuse_answered(resting.ended)  # before its variables go
            if resting.busy:
                raise BusyError("Your own code runs in the run.", cure="Stop it, or wait.")
            await self._engine.dismiss(params.run_id)
        return await self._take_up(params)

    async def revive(self, run_id: str) -> None:
        """Let a run rest again that has ended, by making its variables anew from its log.

        Its log stays as it is. Raises what ``resume`` does.
        """
        run = await self._take_up(ResumeParams(run_id=run_id), revive=True)
        await run.over()
        await asyncio.sleep(0)  # what is called when it ends lets it rest
        if not run.rests:
            raise NotResumableError(
                "The run can't be made to rest again.", cure="Ask the question anew."
            )

    async def _take_up(self, params: ResumeParams, *, revive: bool = False) -> Run:
        """Begin with a run whose own log goes on."""
        run_id = params.run_id
        path = self._engine.path(run_id)
        log = await asyncio.to_thread(RunLog, path, again=True)
        try:
            record = await asyncio.to_thread(lambda: Record(events_of(path), over=revive))
            if not revive:
                _refuse_answered(record.ended)
            elif record.ended is None:
                raise NotResumableError(
                    "The run was cut short before its answer.", cure="Resume it first."
                )
            seq = (await asyncio.to_thread(numbers, path)).free
            asked = await self._params(record, run_id, places=params.places)
            past = await self._past(record, asked, run_id, seq, params.limits)
        except BaseException:
            log.close()
            raise
        past.revive = revive
        if (forked := record.forked) is not None:
            past.program = _given(forked.iteration, forked.given_reply)
        return await self._launch(run_id, asked, log, past)

    async def fork(self, params: ForkParams) -> Run:
        """Begin a run that shares what came before an iteration of another one.

        Raises what ``resume`` does; the other run may be live, and stays as it is.
        """
        path = self._engine.path(params.run_id)
        whole = await read_record(path)
        start = whole.begun(params.iteration)
        if start is None:
            raise NotResumableError(
                f"The run has no iteration {params.iteration}.",
                cure=f"Fork it at one of its {whole.last_iteration()} iterations.",
            )
        record = await read_record(path, start - 1)
        given = ""
        if params.code is not None:
            reply = whole.iterations[f"0.{params.iteration}"].reply
            given = edited(reply.text if reply else "", params.code)
        options = changed(_options(record), params.options)
        run_id = new_run_id()
        asked = await self._params(record, run_id, options)
        if params.options.root_model or params.options.sub_model:
            named = params.options
            models = (named.root_model or record.root_model, named.sub_model or record.sub_model)
            asked.options.root_model, asked.options.sub_model = models
        past = await self._past(record, asked, run_id, start, params.options.limits)
        past.program = _given(params.iteration, given)
        past.fork = Fork(
            params.run_id,
            params.iteration,
            options,
            params.note,
            asked.project,
            options.max_depth or self._engine.config.max_depth,
            given,
        )
        return await self._launch(run_id, asked, self._engine.new_log(run_id), past)

    async def rerun(self, params: RerunParams) -> Run:
        """Begin a run of another one's program, about its sources as they are now.

        Raises UnknownRunError, NotResumableError, SourceError, LogError, SandboxError.
        """
        record = await read_record(self._engine.path(params.run_id))
        if not record.iterations:
            raise NotResumableError("The run has no program yet.", cure="Ask the question again.")
        options = changed(self._raised(record), AskOptions(limits=params.limits))
        run_id = new_run_id()
        asked = await self._params(record, run_id, options)
        kept = await asyncio.to_thread(self._engine.keep, asked)
        rerun = Rerun(params.run_id, Program.of(record), record.answer)
        log = self._engine.new_log(run_id)
        return await self._engine.launch(run_id, asked, log, kept=kept, rerun=rerun)

    async def watch(self, params: WatchParams, on_change: OnChange) -> Watch:
        """Prepare to run a run's program again whenever its sources change.

        Raises UnknownRunError, NotResumableError.
        """
        record = await read_record(self._engine.path(params.run_id))
        places = places_of(record.started.sources) if record.started else []
        if not places:
            raise NotResumableError(
                "The run is about no file, so nothing can change.", cure="Watch another run."
            )
        own = merge_limits(self._engine.config.limits, self._raised(record).limits)
        return Watch(self, params.run_id, places, params.budget, on_change, limit=own.cost)

    def _raised(self, record: Record) -> AskOptions:
        """A run's options, with the limits that were raised before it had its first answer."""
        options = _options(record)
        own = msgspec.structs.asdict(merge_limits(self._engine.config.limits, options.limits))
        raised: dict[str, Any] = {}
        for event in record.events:
            if isinstance(event, FollowUp):
                break
            if isinstance(event, RunResumed | LimitsChanged):
                had = msgspec.structs.asdict(event.limits).items()
                raised |= {k: v for k, v in had if None not in (v, own[k]) and v > own[k]}
        return changed(options, AskOptions(limits=LimitOverrides(**raised)))

    async def has_changed(self, run_id: str) -> bool:
        """Whether a run's sources give another text now. Raises SourceError, NotResumableError."""
        record = await read_record(self._engine.path(run_id))
        spare = new_run_id()  # its directory is its own, whatever else is going on
        asked = await self._params(record, spare)
        try:
            corpus = await self._corpus(record, asked, spare)
        except ContextChangedError:
            return True
        directory = self._engine.directory(spare)
        if corpus is not None:
            await asyncio.to_thread(_discard, corpus, directory)
        return corpus is None

    async def _launch(self, run_id: str, asked: AskParams, log: RunLog, past: Past) -> Run:
        try:
            return await self._engine.launch(run_id, asked, log, past=past)
        except BaseException:
            if past.corpus is not None:
                _discard(past.corpus, self._engine.directory(run_id))
            raise

    async def _past(
        self, record: Record, asked: AskParams, run_id: str, seq: int, limits: LimitOverrides
    ) -> Past:
        """What a run goes on from, with the text that it is about."""
        return Past(
            record=record,
            corpus=await self._corpus(record, asked, run_id),
            seq=seq,
            limits=merge_limits(record.limits or Limits(), limits),
            seed=record.seed,
        )

    async def _params(
        self,
        record: Record,
        run_id: str,
        options: AskOptions | None = None,
        places: Sequence[str] = (),
    ) -> AskParams:
        """What was asked, with the texts that came along where they are kept."""
        started = record.started
        if started is None or not started.sources:
            raise NotResumableError(
                "The log does not say what the question was about: its beginning is damaged, or an "
                "earlier version wrote it.",
                cure="Ask the question again.",
            )
        directory = self._engine.directory(run_id) / "spools"
        texts, moved = self._texts, Moved(started.sources, places)

        def find() -> tuple[str, list[Source], list[Overlay]]:
            question = texts.question(started.question_hash) or started.question
            for further in record.further:
                further.text = texts.question(further.event.question_hash) or further.text
            found = texts.sources(moved.sources(started.sources), directory)
            return question, found, texts.overlays(moved.overlays(started.overlays))

        question, found, overlays = await asyncio.to_thread(find)
        return AskParams(
            question=question,
            sources=found,
            overlays=overlays,
            options=msgspec.structs.replace(
                options or _options(record),
                root_model=record.root_model,
                sub_model=record.sub_model,
            ),
            project=started.project,
        )

    async def _corpus(self, record: Record, asked: AskParams, run_id: str) -> Corpus | None:
        """The text that was asked about; None where the run had not come to read it.

        Raises ContextChangedError where it is not what it was.
        """
        if record.context is None:
            return None
        directory = self._engine.directory(run_id)
        corpus = await build_corpus(
            asked.sources,
            asked.overlays,
            directory=directory,
            config=self._engine.config.context,
            on_progress=lambda documents, size: None,
            store=self._engine.store,
        )
        if corpus.hash != record.context.hash:
            await asyncio.to_thread(_discard, corpus, directory)
            raise ContextChangedError(
                "What the run is about has changed since.",
                cure="Run its program again about what is there now, with rlm-rerun.",
            )
        return corpus


async def read_record(path: Path, last: int | None = None) -> Record:
    """Read a run's logs, up to the event numbered ``last``. Raises NotResumableError."""
    return await asyncio.to_thread(lambda: Record(events_of(path, last)))


def _given(iteration: int, reply: str) -> Program | None:
    """The program of a fork: the reply that a person has written, if any."""
    return Program({f"0.{iteration}": reply}) if reply else None


def _refuse_answered(end: RunEnded | None) -> None:
    if end is not None and end.status == "done":
        raise NotResumableError(
            "The run has its answer.", cure="Fork it, run it again, or ask something new."
        )


def _discard(corpus: Corpus, directory: Path) -> None:
    corpus.close()
    shutil.rmtree(directory, ignore_errors=True)


def _options(record: Record) -> AskOptions:
    if record.forked is not None:
        return record.forked.options
    return record.started.options if record.started else AskOptions()


def changed(options: AskOptions, given: AskOptions) -> AskOptions:
    """Options, with those that are given in their place."""
    default = AskOptions()
    new = {
        name: value
        for name in given.__struct_fields__
        if name != "limits" and (value := getattr(given, name)) != getattr(default, name)
    }
    limits = {k: v for k, v in msgspec.structs.asdict(given.limits).items() if v is not None}
    return msgspec.structs.replace(
        options, limits=msgspec.structs.replace(options.limits, **limits), **new
    )


def edited(reply: str, code: str) -> str:
    """A reply with other code: its words before the first cell, and one cell.

    Raises NotResumableError where the code can't be the code of a reply.
    """
    parser = ReplyParser()
    words = ""
    for piece in parser.feed(reply) + parser.close():
        if piece.part == "fence":
            break
        words += piece.text
    if words and not words.endswith("\n"):
        words += "\n"
    code = code.replace("\r\n", "\n").rstrip("\n")
    # Longer than any that stands in the code, which would close the cell.
    fence = "`" * (max(map(len, re.findall("`{3,}", code)), default=2) + 1)
    for before in (words, ""):  # words may leave a block open, in which the cell would be text
        made = f"{before}{fence}repl\n{code}\n{fence}\n"
        if _only_cell(made) == textwrap.dedent(code).strip():
            return made
    raise NotResumableError("The code is empty, or can't be run as a cell.", cure="Change it.")


def _only_cell(reply: str) -> str | None:
    """The code of a reply, if it is in one cell."""
    parser = ReplyParser()
    parser.feed(reply)
    parser.close()
    return parser.cells[0].strip() if len(parser.cells) == 1 else None
