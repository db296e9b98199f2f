"""Past runs that are asked to go on: resumed where they stopped, forked, or run again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus
from rlm_server.engine.past import Past
from rlm_server.engine.run import Run, merge_limits
from rlm_server.errors import ContextChangedError, NotResumableError
from rlm_server.protocol import AskOptions, AskParams, Limits, Overlay, ResumeParams, Source
from rlm_server.runs.chain import events_of, numbers
from rlm_server.runs.log import RunLog
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
        UnknownModelError, SandboxError.
        """
        path = self._engine.path(params.run_id)
        if self._engine.is_live(params.run_id):
            raise NotResumableError("The run is going on.", cure="Watch it with rlm-open-run.")
        log = await asyncio.to_thread(RunLog, path, again=True)
        try:
            record = await read_record(path)
            if record.ended is not None and record.ended.status == "done":
                raise NotResumableError(
                    "The run has its answer.", cure="Fork it, run it again, or ask something new."
                )
            # What a killed server has left; nobody uses it, since we have the log.
            left = self._engine.directory(params.run_id)
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
            asked = await self._params(record, params.run_id, params.sources)
            corpus = await self._corpus(record, asked, params.run_id)
        except BaseException:
            log.close()
            raise
        past = Past(
            record=record,
            corpus=corpus,
            seq=(await asyncio.to_thread(numbers, path)).free,
            limits=merge_limits(record.limits or Limits(), params.limits),
            seed=record.started.seed if record.started else 0,
        )
        return await self._launch(params.run_id, asked, log, past)

    async def _launch(self, run_id: str, asked: AskParams, log: RunLog, past: Past) -> Run:
        try:
            return await self._engine.launch(run_id, asked, log, past=past)
        except BaseException:
            if past.corpus is not None:
                _discard(past.corpus, self._engine.directory(run_id))
            raise

    async def _params(
        self, record: Record, run_id: str, sources: Sequence[Source] | None
    ) -> AskParams:
        """What was asked, with the texts that came along where they are kept."""
        started = record.started
        if started is None or not (started.sources or sources):
            raise NotResumableError(
                "The log does not say what the question was about: its beginning is damaged, or an "
                "earlier version wrote it.",
                cure="Ask the question again.",
            )
        directory = self._engine.directory(run_id) / "spools"
        texts = self._texts

        def find() -> tuple[str, list[Source], list[Overlay]]:
            question = texts.question(started.question_hash) or started.question
            found = sources or texts.sources(started.sources, directory)
            return question, list(found), texts.overlays(started.overlays)

        question, found, overlays = await asyncio.to_thread(find)
        return AskParams(
            question=question,
            sources=found,
            overlays=overlays,
            options=msgspec.structs.replace(
                _options(record), root_model=_root(record), sub_model=_sub(record)
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


def _discard(corpus: Corpus, directory: Path) -> None:
    corpus.close()
    shutil.rmtree(directory, ignore_errors=True)


def _options(record: Record) -> AskOptions:
    if record.forked is not None:
        return record.forked.options
    return record.started.options if record.started else AskOptions()


def _root(record: Record) -> str | None:
    told = record.resumed or record.forked or record.started
    return told.root_model if told else None


def _sub(record: Record) -> str | None:
    told = record.resumed or record.forked or record.started
    return told.sub_model if told else None
