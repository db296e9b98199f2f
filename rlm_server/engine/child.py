"""Child runs: ``rlm_query`` starts one, with a REPL of its own over a part of the context."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_server.config import Config
from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import Corpus
from rlm_server.context.part import Part
from rlm_server.engine.calls import Calls, limit_error, prompt_hash, run_error
from rlm_server.engine.coverage import Coverage
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.ledger import Ledger, LimitReached
from rlm_server.engine.loop import Loop
from rlm_server.engine.overcalls import OverCalls
from rlm_server.engine.speech import Speech
from rlm_server.engine.steering import Steering
from rlm_server.errors import RlmError, SandboxError, SourceError
from rlm_server.models import Models
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    ChildDelta,
    ChildDone,
    ChildStarted,
    Notice,
    RunError,
    RunStatus,
    TextSource,
)
from rlm_server.sandbox import Call, CallReply, Repl
from rlm_server.text import clip, pieces

QUESTION_SHOWN = 4096
"""Characters of a child's question that its event shows."""

_HASHED = 1_000_000  # characters of a child's part that are in memory at once to name it

PLAIN_PROMPT = 200_000
"""Characters of the context that a plain call takes along where a child run is too deep."""

Context = Corpus | Part


@dataclass(frozen=True)
class Place:
    """Where a cell that calls stands: what it can hand on, and how deep it is."""

    loop: Loop
    context: Context
    depth: int


class Children:
    """Starts and ends the child runs of one run, at any depth."""

    def __init__(
        self,
        config: Config,
        emitter: Emitter,
        ledger: Ledger,
        calls: Calls,
        models: Models,
        speech: Speech,
        *,
        max_depth: int,
        depth_models: Sequence[str],
        steering: Steering,
        directory: Path,
        coverage: Coverage,
        seed: int = 0,
    ) -> None:
        """``depth_models`` are the models of depth 1, 2, ...; the last serves all that follow."""
        self._config = config
        self._emitter = emitter
        self._ledger = ledger
        self._calls = calls
        self._models = models
        self._speech = speech
        self._over_calls = OverCalls(emitter)
        self._max_depth = max_depth
        self._depth_models = depth_models
        self._steering = steering
        self._directory = directory
        self._coverage = coverage
        self._seed = seed
        self._loops: dict[str, Loop] = {}
        self._tasks: dict[str, asyncio.Task[CallReply]] = {}
        self._in_turn = asyncio.Lock()
        """Children are numbered, and begin, in the order in which they were asked for."""

    def add(self, loop: Loop) -> None:
        """Know a loop, so that its cells can be interrupted."""
        self._loops[loop.node] = loop

    def loop(self, node: str) -> Loop | None:
        """The loop of the run, or of a child run that is live."""
        return self._loops.get(node)

    async def on_call(self, place: Place, call: Call) -> CallReply:
        """Answer what a cell asks for."""
        parent = place.loop.current
        if call.function == "tool":
            return await self._calls.sub(parent, call, place.depth)
        characters = self._speech.sub_characters(place.depth)
        if refused := self._over_calls.refuse(parent, place.loop.profile, characters):
            return refused
        if call.function == "llm_query":
            return await self._sub(place, parent, call, call.holds)
        if not _is_within(call.span, place.context):  # only a forged call's is not
            return CallReply("", error=run_error(_outside()))
        if place.depth + 1 >= self._max_depth:
            return await self._plain(place, parent, call)
        async with self._in_turn:
            name = await asyncio.to_thread(_name, place.context, call)
            past = self._calls.recall(parent, name)
            if past is None and (given := self._calls.given_child(parent, call, name)):
                return given
            node = past.node if past else self._calls.next_node(parent)
        if past is not None and past.done is not None:
            return await self._calls.recorded(past)
        task = asyncio.create_task(self._run(place, node, call, name), name=f"child {node}")
        self._tasks[node] = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # before it had begun; later it answers with an error
                return CallReply(text="", error=_cancelled())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        finally:
            del self._tasks[node]

    def follow_limits(self) -> None:
        """Let running cells follow limits that were changed."""
        for loop in self._loops.values():
            loop.follow_limits()

    def cancel(self, node: str) -> bool:
        """Stop a child run, or the cell that runs in an iteration; False where there is none."""
        if task := self._tasks.get(node):
            return task.cancel()
        loop = self._loops.get(node.rpartition(".")[0])
        if loop is None or loop.current != node:
            return False
        loop.interrupt()
        return True

    async def _plain(self, place: Place, parent: str, call: Call) -> CallReply:
        """Ask the sub model in place of a child run, and say so."""
        self._emitter.emit(
            Notice,
            parent,
            level="info",
            text=f"rlm_query is a plain sub-call at depth {place.depth + 1} "
            f"(max-depth is {self._max_depth}).",
        )
        text, holds = call.text, call.holds
        if text is None:
            start, end = call.span or (0, place.context.characters)
            holds = [(start, min(end, start + PLAIN_PROMPT))]
            text = place.context.slice(*holds[0])
            if end - start > PLAIN_PROMPT:
                text += f"\n[cut here; {end - start:,} characters in all]"
        prompt = f"{call.prompt}\n\nThe text:\n<<<\n{text}\n>>>"
        plain = Call(0, "llm_query", prompt, call.model)
        return await self._sub(place, parent, plain, holds)

    async def _sub(
        self, place: Place, parent: str, call: Call, holds: Sequence[tuple[int, int]]
    ) -> CallReply:
        """Make a sub-call whose prompt holds these stretches of the context."""
        told = self._coverage.held(place.context, holds)
        reply = await self._calls.sub(parent, call, place.depth, holds=told)
        if reply.error is None:
            self._coverage.read(place.context, holds)
        return reply

    async def _run(self, place: Place, node: str, call: Call, name: str) -> CallReply:
        """Run a child to its end; whatever goes wrong is an error in the reply."""
        started = time.monotonic()
        loop: Loop | None = None
        context: Context | None = None
        status: RunStatus = "failed"
        error: RunError | None = None
        answer = ""
        counted = False
        try:
            self._ledger.count_subcall()
            counted = True
            depth = place.depth + 1
            model = self._models.resolve(call.model, default=self._model(depth))
            async with self._in_turn:
                context = await self._context(place.context, node, call)
                loop = self._begin(node, depth, model, context, call.prompt, name)
            self._coverage.read(place.context, call.holds if call.text is not None else ())
            answer = await self._converse(loop, Place(loop, context, depth), call.prompt)
            status = "done"
        except LimitReached as limit:
            status, error = "limit", limit_error(limit)
        except RlmError as failure:
            error = run_error(failure)
        except asyncio.CancelledError:
            status, error = "cancelled", _cancelled()
        finally:
            self._loops.pop(node, None)
            if context is not None:
                context.close()
            if loop is not None:
                answer = answer or loop.best or loop.last_prose
                self._tell_end(node, status, answer, error, loop, time.monotonic() - started)
            self._ledger.subcalls_done += counted
        if status == "limit" and answer:
            error = None  # the best answer so far is worth more than nothing
        usage = self._ledger.below(node)
        return CallReply(text=answer if error is None else "", error=error, usage=usage)

    def _begin(
        self, node: str, depth: int, model: str, context: Context, question: str, name: str
    ) -> Loop:
        self._emitter.emit(
            ChildStarted,
            node,
            subcall=int(node.rpartition(".")[2]),
            depth=depth,
            model=model,
            question=clip(question, QUESTION_SHOWN),
            documents=len(context.documents),
            characters=context.characters,
            prompt_hash=name,
        )
        loop = Loop(
            self._emitter,
            self._calls,
            self._ledger,
            node=node,
            model=model,
            profile=self._speech.profile(model, depth),
            steering=self._steering,
        )
        self.add(loop)
        return loop

    async def _converse(self, loop: Loop, place: Place, question: str) -> str:
        self._coverage.opened(place.context)
        loop.on_cell = lambda result: self._coverage.cell(place.context, result)
        repl = await Repl.start(
            place.context,
            config=self._config.sandbox,
            on_call=lambda call: self.on_call(place, call),
            tools=self._calls.offer.stubs,
            seed=zlib.crc32(loop.node.encode(), self._seed),
        )
        try:
            history = self._speech.begin(loop.model, question, place.context, depth=place.depth)
            return await loop.run(repl, history)
        finally:
            await repl.close()

    async def _context(self, context: Context, node: str, call: Call) -> Context:
        """The part of the caller's context that is meant, or the text that came along."""
        if call.text is not None:
            return await build_corpus(
                [TextSource(text=call.text)],
                [],
                directory=self._directory / f"child-{node}",
                config=self._config.context,
                on_progress=lambda documents, size: None,
            )
        start, end = call.span or (0, context.characters)
        if not 0 <= start < end <= context.characters:
            raise _outside()
        base = context.part[0] if context.part else 0
        whole = context.whole
        index = self._directory / f"child-{node}.json"
        try:
            return await asyncio.to_thread(Part, whole, base + start, base + end, index)
        except OSError as error:
            raise SourceError(f"The index of a child run can't be written: {error}.") from error

    def _model(self, depth: int) -> str:
        return self._depth_models[min(depth, len(self._depth_models)) - 1]

    def _tell_end(
        self,
        node: str,
        status: RunStatus,
        answer: str,
        error: RunError | None,
        loop: Loop,
        seconds: float,
    ) -> None:
        *early, last = pieces(answer, MAX_EVENT_TEXT)
        for piece in early:
            self._emitter.emit(ChildDelta, node, text=piece)
        self._emitter.emit(
            ChildDone,
            node,
            status=status,
            answer=last,
            error=error,
            usage=self._ledger.below(node),
            iterations=loop.iterations,
            seconds=seconds,
        )


def _name(context: Context, call: Call) -> str:
    """Name a child run by its question and by what is in its text. Blocks."""
    if call.text is None and call.span is None and isinstance(context, Corpus):
        return prompt_hash(call.prompt, call.model, context.hash)
    digest = hashlib.sha256()
    if call.text is not None:
        digest.update(call.text.encode("utf-8", "replace"))
    else:
        first, last = call.span or (0, context.characters)
        for start in range(first, last, _HASHED):
            part = context.slice(start, min(start + _HASHED, last))
            digest.update(part.encode("utf-8", "replace"))
    about = digest.hexdigest()
    return prompt_hash(call.prompt, call.model, about)


def _is_within(span: tuple[int, int] | None, context: Context) -> bool:
    return span is None or 0 <= span[0] <= span[1] <= context.characters


def _outside() -> SandboxError:
    return SandboxError("The part of the context for a child run lies outside of it.")


def _cancelled() -> RunError:
    return RunError(kind="cancelled", message="The child run was cancelled.")
