"""A run's calls to models: each is reserved, asked, settled, and told as events."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Literal

from rlm_server.engine.early import EarlyCell
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.ledger import ANSWER_TOKENS, Ledger, LimitReached, Price, Reservation
from rlm_server.engine.offer import Offer
from rlm_server.engine.program import Program
from rlm_server.engine.prompt import sub_messages
from rlm_server.engine.replay import Replay
from rlm_server.engine.reply import Piece, ReplyParser
from rlm_server.engine.speculation import Speculation
from rlm_server.engine.steering import Steering
from rlm_server.errors import RlmError
from rlm_server.models import (
    Account,
    Completion,
    Fate,
    Message,
    Models,
    Priority,
    add,
    most_tokens,
    without_thoughts,
)
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    AskParams,
    Held,
    Notice,
    Progress,
    ReplyDelta,
    ReplyDone,
    RunError,
    SubcallDelta,
    SubcallDone,
    SubcallStarted,
    Usage,
)
from rlm_server.runs.recorded import PastCall, PastCell
from rlm_server.sandbox import Batching, Call, CallReply, Sure
from rlm_server.text import clip, pieces

PROMPT_SHOWN = 4096
"""Characters of a sub-call's prompt that its event shows."""

NAME_SHOWN = 200
"""Characters of a model's name, which the model's code may have made up."""

REFUSALS_SHOWN = 10
"""Refused sub-calls of one iteration that are told."""

PROGRESS_SECONDS = 0.1
"""The least time between two progress events."""


def run_error(error: RlmError) -> RunError:
    """An error as it goes over the wire."""
    message = clip(error.message, PROMPT_SHOWN)
    return RunError(kind=error.kind, message=message, cure=error.cure)


def limit_error(limit: LimitReached) -> RunError:
    """A limit as the error of one call."""
    return RunError(kind="limit", message=f"{limit}.".capitalize())


def prompt_hash(prompt: str, model: str | None, text: str = "") -> str:
    """Name a prompt, by which its answer is found again; ``text``: a hash of what it is about."""
    parts = (part.encode("utf-8", "replace") for part in (prompt, model or "", text))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def account_of(run_id: str, params: AskParams) -> Account:
    """On whose behalf the calls of a question are made."""
    options = params.options
    return Account(
        run_id,
        params.project,
        read_cache=not (options.no_cache or options.fresh),
        write_cache=not options.no_cache,
    )


class Calls:
    """Makes the model calls of one run."""

    def __init__(
        self,
        emitter: Emitter,
        ledger: Ledger,
        models: Models,
        steering: Steering,
        *,
        subs: Sequence[str],
        account: Account,
        offer: Offer,
    ) -> None:
        """``subs`` are the sub models of depth 0, 1, ...; the last serves all that follow.

        ``offer`` has the tools.
        """
        self.offer = offer
        self.iteration = 0
        self._emitter = emitter
        self._ledger = ledger
        self._models = models
        self._steering = steering
        self._account = account
        self.subs = subs
        """May be replaced between questions."""
        self.replay: Replay | None = None
        """Where given, what it has is neither asked nor paid, nor told again."""
        self.program: Program | None = None
        """Where given, what it has is neither asked nor paid."""
        self.speculation = Speculation()
        self.unsure: dict[str, Sure] = {}
        """Iterations whose cell has begun before it is sure to be run."""
        self._numbers: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def root(
        self, node: str, model: str, messages: list[Message], early: EarlyCell | None = None
    ) -> tuple[str, ReplyParser]:
        """Ask a root model; its reply streams into events. Returns the reply, whole and parsed.

        Thoughts that it begins with stay in the events alone.

        ``early`` is told of the first cell as soon as it is whole.

        Raises LimitReached, ModelError.
        """
        if self.replay is not None and (past := self.replay.reply(node)):
            self._ledger.restore(node, past.done.usage)
            return without_thoughts(past.text, begun=True), past.parser
        if self.program is not None and (given := self._given(node, model)) is not None:
            return without_thoughts(given[0], begun=True), given[1]
        started = time.monotonic()
        listener, fate = _RootListener(self._emitter, node, early), Fate()
        reservation = self._reserve(node, model, messages, subcall=False)
        try:
            # Of a run that nobody looks at, and of child runs, the reply can wait like a sub-call.
            watched = self._account.watchers and node.count(".") == 1
            priority = Priority.WATCHED if watched else Priority.SUBCALL
            completion = await self._complete(model, messages, listener, priority, fate)
        except BaseException as error:
            self._settle(reservation, self._used_by(error, model, messages, fate, listener))
            raise
        self._settle(reservation, self._used(completion, model, messages, fate, listener.lost))
        listener.close()
        self._emitter.emit(
            ReplyDone,
            node,
            model=completion.model,
            usage=completion.usage,
            seconds=time.monotonic() - started,
            cells=len(listener.parser.cells),
            characters=listener.parser.characters,
            cached=completion.cached,
        )
        return without_thoughts(completion.text, begun=True), listener.parser

    def _given(self, node: str, model: str) -> tuple[str, ReplyParser] | None:
        """A reply that is not asked for, because the run's program has it; it is told as others."""
        text = self.program.reply(node) if self.program else None
        if self.program is None or text is None:
            return None
        parser = ReplyParser()
        parser.feed(text)
        parser.close()
        if doubt := self.program.doubt(node, parser.cells):
            self.tell_doubt(node, doubt)
            return None
        listener = _RootListener(self._emitter, node)
        listener.delta("text", text)
        listener.close()
        parser = listener.parser
        self._emitter.emit(
            ReplyDone,
            node,
            model=model,
            usage=Usage(),
            seconds=0.0,
            cells=len(parser.cells),
            characters=parser.characters,
            cached=True,
        )
        return text, parser

    def tell_doubt(self, node: str, doubt: str) -> None:
        """Say that from here on models are asked, and why."""
        text = f"{doubt} From here on the model is asked."
        self._emitter.emit(Notice, node, level="info", text=text)

    async def sub(
        self,
        parent: str,
        call: Call,
        depth: int,
        priority: Priority = Priority.SUBCALL,
        holds: Sequence[Held] = (),
    ) -> CallReply:
        """Make a sub-call for a cell at a depth, or call a tool.

        Whatever goes wrong is an error in the reply. ``holds`` is what is told of the context in
        its prompt.
        """
        await self._steering.gate(parent)
        if self._numbers.get(parent, 0) >= self._ledger.limits.subcalls + REFUSALS_SHOWN:
            # Code that goes on calling after it was refused would fill the log.
            return CallReply(text="", error=limit_error(LimitReached("too many sub-calls")))
        tool = (call.tool or "?") if call.function == "tool" else ""
        name = prompt_hash(call.prompt, tool or call.model)
        past = self.recall(parent, name)
        if past is not None and past.done is not None:
            return await self.recorded(past)
        for sure in self._unsure_above(parent):
            priority = Priority.SPECULATIVE
            if tool and not await asyncio.shield(sure):  # what a tool does can't be undone
                return CallReply(text="", error=limit_error(LimitReached("the cell was undone")))
        node, started = past.node if past else self.next_node(parent), time.monotonic()
        default = self.subs[min(depth, len(self.subs) - 1)]
        self._emitter.emit(
            SubcallStarted,
            node,
            subcall=int(node.rpartition(".")[2]),
            model="" if tool else clip(call.model or default, NAME_SHOWN),
            tool=clip(tool, NAME_SHOWN),
            prompt=clip(call.prompt, PROMPT_SHOWN),
            prompt_characters=len(call.prompt),
            prompt_hash=name,
            holds=list(holds),
        )
        completion: Completion | None = None
        error: RunError | None = None
        status: Literal["ok", "error", "cancelled"] = "error"
        try:
            if tool:
                completion = await self._call_tool(call)
            else:
                completion = await self._ask_sub(node, call, default, priority)
            status = "ok"
        except LimitReached as limit:
            error = limit_error(limit)
        except RlmError as failure:
            error = run_error(failure)
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            self._sub_done(node, status, completion, error, time.monotonic() - started)
        if completion is None:
            return CallReply(text="", error=error)
        return CallReply(
            text=completion.text,
            model=completion.model,
            usage=completion.usage,
            cached=completion.cached,
        )

    def _unsure_above(self, node: str) -> list[Sure]:
        """What a call in an iteration waits for: its own cell may be unsure, or one above it."""
        parts = node.split(".")
        above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return [self.unsure[each] for each in above if each in self.unsure]

    async def embed(self, text: str) -> list[float]:
        """The vector of a question, on the run's account. Raises LimitReached, ModelError."""
        model = self._models.embedding
        assert model is not None
        messages: list[Message] = [{"role": "user", "content": text}]
        reservation = self._reserve("0", model, messages, subcall=False)
        used = None
        try:
            embedding = await self._models.embed(text, account=self._account)
            used = embedding.usage
        finally:
            self._settle(reservation, used)
        return embedding.numbers

    def batching(self, node: str, tell: Callable[[str], None], most: int | None) -> Batching | None:
        """How a cell that begins now may make the sub-calls of its loops ahead, if at all.

        ``most`` calls may be made in its iteration, ``node``.
        """
        left = None if most is None else most - self._numbers.get(node, 0)
        return self.speculation.batching(self._ledger, tell, left)

    def gives(self, node: str) -> bool:
        """Whether the run's program has the reply of an iteration, which is code then."""
        return self.program is not None and self.program.reply(node) is not None

    def next_node(self, parent: str) -> str:
        """The node of the next sub-call or child run in an iteration; they count from 1."""
        if parent not in self._numbers:
            self._numbers[parent] = self.replay.highest(parent) if self.replay else 0
        self._numbers[parent] += 1
        return f"{parent}.{self._numbers[parent]}"

    def recall(self, parent: str, name: str) -> PastCall | None:
        """What the record has of a call in an iteration; that it has nothing is told once."""
        if self.replay is None:
            return None
        past = self.replay.call(parent, name)
        if past is None and self.replay.foreign(parent):
            self._emitter.emit(
                Notice,
                parent,
                level="warning",
                text="Run anew, the code asks what is not in the record; that is paid for.",
            )
        return past

    def given_child(self, parent: str, call: Call, name: str) -> CallReply | None:
        """The answer of a child run that the program has; it is told as a kept sub-call."""
        past = self.program.answer(name) if self.program else None
        if past is None:
            return None
        node = self.next_node(parent)
        self._emitter.emit(
            SubcallStarted,
            node,
            subcall=int(node.rpartition(".")[2]),
            model=past.model,
            prompt=clip(call.prompt, PROMPT_SHOWN),
            prompt_characters=len(call.prompt),
            prompt_hash=name,
        )
        self._ledger.restore(node, Usage(), 1)
        known = Completion(
            text=past.answer, usage=Usage(), model=past.model, seconds=0.0, cached=True
        )
        self._sub_done(node, "ok", known, None, 0.0)
        return CallReply(text=known.text, model=known.model, cached=True)

    async def recorded(self, past: PastCall) -> CallReply:
        """The recorded answer to a call; one that was cut off with its cell never comes."""
        assert past.done is not None
        self._count(past)
        if past.done.status == "cancelled" and not past.child:
            await asyncio.Event().wait()
        error = past.error
        return CallReply(
            text=past.answer if error is None else "",
            error=error,
            model=past.model,
            usage=past.done.usage,
            cached=getattr(past.done, "cached", False),
        )

    def count_unasked(self, past: PastCell) -> None:
        """Count what was paid while a recorded cell ran, and what its code has not asked again."""
        for call in self.replay.unasked(past) if self.replay else ():
            self._count(call)

    def _count(self, past: PastCall) -> None:
        """Count a call that the record has."""
        if past.done is not None and self.replay is not None:
            refused = past.error is not None and past.error.kind == "limit"
            counted = 0 if refused else self.replay.below(past)
            self._ledger.restore(past.node, past.done.usage, counted)

    def finish(self) -> None:
        """Write the totals one last time."""
        self._progress()

    async def _ask_sub(self, node: str, call: Call, default: str, priority: Priority) -> Completion:
        name = self._models.resolve(call.model, default=default)
        messages = sub_messages(call.prompt)
        if self.program and (past := self.program.answer(prompt_hash(call.prompt, call.model))):
            self._ledger.restore(node, Usage(), 1)
            return Completion(
                text=past.answer, usage=Usage(), model=past.model, seconds=0.0, cached=True
            )
        reservation = self._reserve(node, name, messages, subcall=True)
        used, fate = None, Fate()
        try:
            completion = await self._complete(name, messages, None, priority, fate)
            used = self._used(completion, name, messages, fate)
        except BaseException as error:
            used = self._used_by(error, name, messages, fate)
            raise
        finally:
            self._settle(reservation, used)
        return completion

    async def _call_tool(self, call: Call) -> Completion:
        """Call a tool, which counts as a sub-call, and costs nothing that is known here."""
        self._ledger.count_subcall()
        self._note()
        try:
            text = await self.offer.call(call.tool, call.prompt)
        finally:
            self._ledger.subcalls_done += 1
            self._note()
        return Completion(text=text, usage=Usage(), model=call.tool, seconds=0.0)

    async def _complete(
        self,
        name: str,
        messages: list[Message],
        listener: _RootListener | None,
        priority: Priority,
        fate: Fate,
    ) -> Completion:
        bound = ANSWER_TOKENS if self._ledger.bounded else None
        return await self._models.complete(
            name,
            messages,
            listener=listener,
            max_tokens=bound,
            priority=priority,
            account=self._account,
            fate=fate,
        )

    def _reserve(
        self, node: str, name: str, messages: list[Message], *, subcall: bool
    ) -> Reservation:
        prompts = [message["content"] for message in messages]
        price = Price(*self._models.price(name, most_tokens(prompts)))
        reservation = self._ledger.reserve(node, prompts, price, subcall=subcall)
        self._note()
        return reservation

    def _settle(self, reservation: Reservation, used: Usage | None) -> None:
        self._ledger.settle(reservation, used)
        self._note()

    def _used(
        self,
        completion: Completion,
        model: str,
        messages: list[Message],
        fate: Fate,
        lost: int = 0,
    ) -> Usage:
        """What a reply has used, with the tries before it; ``lost``: characters of those."""
        used = add(completion.usage, fate.lost) if fate.lost else completion.usage
        # Of what was lost, the servers' own numbers are better than ours.
        lost = 0 if fate.lost else lost
        tries = fate.late + bool(lost)
        return add(used, self._estimate(model, messages, lost, tries)) if tries else used

    def _used_by(
        self,
        error: BaseException,
        model: str,
        messages: list[Message],
        fate: Fate,
        listener: _RootListener | None = None,
    ) -> Usage | None:
        """What a call that brought no reply has used; None: nothing.

        One that was cancelled is paid where it had been sent, and does not go on for others.
        """
        cancelled = isinstance(error, asyncio.CancelledError)
        characters = listener.lost if listener else 0
        if listener and (fate.under_way or not cancelled):
            characters += listener.characters
        if fate.lost and not fate.under_way:
            characters = 0  # the servers' own numbers are better
        tries = fate.late + (bool(characters) or (cancelled and fate.under_way > 0))
        if not tries:
            return fate.lost
        used = self._estimate(model, messages, characters, tries)
        return add(used, fate.lost) if fate.lost else used

    def _estimate(self, model: str, messages: list[Message], characters: int, tries: int) -> Usage:
        """What tries of a prompt, and answers of so many characters, are likely to be charged."""
        usage = Usage(
            prompt_tokens=tries * sum(len(message["content"]) for message in messages) // 4,
            completion_tokens=characters // 4,
        )
        usage.cost = self._models.cost(model, usage)
        self._models.charge(model, usage, self._account)
        return usage

    def _sub_done(
        self,
        node: str,
        status: Literal["ok", "error", "cancelled"],
        completion: Completion | None,
        error: RunError | None,
        seconds: float,
    ) -> None:
        *early, last = pieces(completion.text if completion else "", MAX_EVENT_TEXT)
        for piece in early:
            self._emitter.emit(SubcallDelta, node, text=piece)
        self._emitter.emit(
            SubcallDone,
            node,
            status=status,
            answer=last,
            error=error,
            usage=completion.usage if completion else Usage(),
            seconds=seconds,
            cached=completion.cached if completion else False,
            hedged=completion.hedged if completion else False,
        )

    def _note(self) -> None:
        """Let the totals be told soon."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PROGRESS_SECONDS, self._progress)

    def _progress(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._emitter.emit(
            Progress,
            iteration=self.iteration,
            subcalls_started=self._ledger.subcalls_started,
            subcalls_done=self._ledger.subcalls_done,
            usage=self._ledger.usage,
            seconds=self._ledger.all_seconds,
        )


class _RootListener:
    """Turns a streamed reply into events, through the parser that also finds the cells."""

    def __init__(self, emitter: Emitter, node: str, early: EarlyCell | None = None) -> None:
        self.parser = ReplyParser()
        self._early = early
        self.characters = 0
        self.lost = 0
        """Characters of replies that broke off, which are paid for as well."""
        self._emitter = emitter
        self._node = node

    def delta(self, part: Literal["text", "reasoning"], text: str) -> None:
        self.characters += len(text)
        if part == "reasoning":
            self._emitter.stream(ReplyDelta, self._node, text, part="reasoning")
        else:
            self._show(self.parser.feed(text))
            if self._early is not None and self.parser.thought:
                self._early.void()
            elif self._early is not None and self.parser.cells:
                self._early.closed(self.parser.cells[0])

    def restarted(self, reason: str) -> None:
        if self._early is not None:
            self._early.void()
        self.close()
        self.parser = ReplyParser()
        self.lost, self.characters = self.lost + self.characters, 0
        self.notice(f"The reply broke off ({reason}); it is asked for again.")

    def notice(self, text: str) -> None:
        self._emitter.emit(Notice, self._node, level="warning", text=text)

    def close(self) -> None:
        self._show(self.parser.close())
        self._emitter.flush()

    def _show(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._emitter.stream(ReplyDelta, self._node, piece.text, part=piece.part)
