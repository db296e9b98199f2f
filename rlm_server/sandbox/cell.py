"""One cell while it runs: its clock, its calls in flight, what it has printed, how it ends."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.protocol import RunError
from rlm_server.sandbox import messages
from rlm_server.sandbox.clip import Clip
from rlm_server.sandbox.early import Sure, VoidError
from rlm_server.sandbox.frames import FrameError
from rlm_server.sandbox.messages import (
    Ahead,
    Call,
    CallReply,
    CellResult,
    Done,
    Execute,
    Output,
    Reply,
    Status,
    Stream,
)
from rlm_server.sandbox.worker import Undone, Worker, nothing
from rlm_server.text import clean

GRACE_SECONDS = 0.05
"""Between the interrupt, which a cell may handle or ignore, and the end of its process."""

CHARACTERS_AT_ONCE = 32_000_000
"""Of the prompts and texts of one cell's calls in flight, which the server holds in memory."""

OnCall = Callable[[Call], Awaitable[CallReply]]
OnOutput = Callable[[Stream, str], None]


class Batching(NamedTuple):
    """How the sub-calls of loops may be made ahead of the loops' turns."""

    on_ahead: Callable[[int], None]
    """Called with the line of a loop where that is done."""
    spare: int = 1 << 30
    """Turns of a loop that is to have it, if it makes other calls too: those of turns that are
    not reached would use up a limit."""


BATCHES_TOLD = 20
"""Loops of one cell that are told of."""


class Cell:
    """Runs once."""

    def __init__(
        self,
        config: SandboxConfig,
        on_call: OnCall,
        on_output: OnOutput,
        clip: Clip,
        batching: Batching | None = None,
    ) -> None:
        """Without ``batching``, no sub-calls are made ahead."""
        self._config = config
        self._on_call = on_call
        self._on_output = on_output
        self._clip = clip
        self._batching = batching
        self._batches = 0
        self._token = secrets.token_hex(8)
        self._worker: Worker | None = None
        self._stopped: tuple[Status, str] | None = None
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._characters = 0
        self._printed = 0
        self._too_full = False
        self._timers: list[asyncio.TimerHandle] = []
        self._deadline: asyncio.TimerHandle | None = None
        self._running = False
        self._began: float | None = None

    def allow(self, seconds: float | None) -> None:
        """Let the cell take so many seconds from now on, in place of what it was given.

        None: as long as it takes, until another word.
        """
        if self._began is None:  # it has not begun, or is over
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            whole = loop.time() - self._began + seconds
            reason = f"TimeoutError: the cell ran longer than {whole:.3g} seconds"
            self._deadline = loop.call_later(seconds, self.stop, "timeout", reason)

    def stop(self, status: Status, reason: str) -> None:
        """Interrupt the cell, and end its process when that does not end it soon."""
        if self._stopped is not None:
            return
        self._stopped = (status, reason)
        if self._worker is not None:
            self._carry_out()

    def _carry_out(self) -> None:
        assert self._worker is not None
        self._worker.interrupt()
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(GRACE_SECONDS, self._kill))

    def _kill(self) -> None:
        assert self._worker is not None
        self._over.set()
        self._worker.kill()

    async def run(
        self, worker: Worker, order: Execute, seconds: float | None, sure: Sure | None = None
    ) -> CellResult:
        """Run an order in this worker for at most these seconds; the worker is usable after.

        With ``sure`` the cell begins early: its time is counted from when it is sure. Raises
        VoidError where it was not to run.
        """
        begun = time.monotonic()
        self._began = asyncio.get_running_loop().time()
        if sure is None:
            self.allow(seconds)
        else:
            sure.add_done_callback(lambda sure: self._settle(sure.result(), seconds))
        worker.on_over_quota = self._over_quota
        try:
            self._worker = worker
            self._running = True
            done, broken = await self._conduct(worker, order)
        finally:
            worker.on_over_quota = nothing
            self._running = False
            self.allow(None)
            self._began = None
            for timer in self._timers:
                timer.cancel()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
        taken = time.monotonic() - begun
        if done is None:
            result = self._died(await worker.undo(), broken)
        elif self._too_full:  # the way back empties the directory too
            result = self._died(await worker.undo(), "")
        elif done.memory:  # too little is left for another cell
            result = self._out_of_memory(await worker.undo())
        else:
            result = self._done(done)
        if sure is not None and not await asyncio.shield(sure):
            raise VoidError(kept=result.kept if result.undone else (await worker.undo()).kept)
        if not result.undone:
            worker.commit()
        result.seconds = taken
        return result

    def _settle(self, sure: bool, seconds: float | None) -> None:
        """It is sure now that the cell was to run, or that it was not."""
        if not self._running or self._worker is None:
            return
        if not sure:
            self._kill()
            return
        self._worker.frames.post(msgspec.json.encode(messages.Sure(token=self._token)))
        self._began = asyncio.get_running_loop().time()
        self.allow(seconds)

    async def _conduct(self, worker: Worker, order: Execute) -> tuple[Done | None, str]:
        """Send the cell and serve it to its end; a broken protocol is named."""
        order.token, order.code = self._token, clean(order.code)
        order.reply, order.before = clean(order.reply), clean(order.before)
        order.show = self._clip.limit
        order.batch = self._batching is not None
        order.spare = self._batching.spare if self._batching else 0
        try:
            await worker.begin(msgspec.json.encode(order))
            if self._stopped is not None:  # before there was a process to stop
                self._carry_out()
            return await self._follow(worker), ""
        except EOFError:
            return None, ""
        except FrameError as error:
            return None, f"the REPL process broke the protocol: {error}"

    async def _follow(self, worker: Worker) -> Done:
        """Serve the cell until it says that it is done."""
        while True:
            message = await worker.frames.get()
            if isinstance(message, Output) and message.token == self._token:
                self._take_output(message)
            elif isinstance(message, Call) and message.token == self._token:
                await self._take_call(worker, message)
            elif isinstance(message, Ahead) and message.token == self._token:
                self._take_ahead(message)
            elif isinstance(message, Done) and message.token == self._token:
                return message

    def _take_ahead(self, message: Ahead) -> None:
        self._batches += 1
        if self._batching is not None and self._batches <= BATCHES_TOLD:
            self._batching.on_ahead(message.line)

    def _over_quota(self) -> None:
        limit = f"{self._config.scratch:,}"
        self._too_full = True
        self.stop(
            "limit",
            f"ScratchLimit: the cell wrote more than {limit} bytes of files; they are removed",
        )

    def _take_output(self, message: Output) -> None:
        self._printed += len(message.text)
        if self._printed > self._config.output:
            limit = f"{self._config.output:,}"
            self.stop("limit", f"OutputLimit: the cell printed more than {limit} characters")
            return
        text = clean(message.text)
        self._clip.add(text)
        self._on_output(message.stream, text)

    # ----------------------------------------------------------------------------------- the calls

    async def _take_call(self, worker: Worker, call: Call) -> None:
        """Start a call. With too many in flight nothing more is read, but the clock goes on."""
        size = len(call.prompt) + len(call.text or "")
        while self._too_many(size) and not self._over.is_set():
            over = asyncio.ensure_future(self._over.wait())
            try:
                await asyncio.wait({over, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                over.cancel()
        if self._stopped is None:
            task = asyncio.create_task(self._answer_call(worker, call))
            self._tasks.add(task)
            self._characters += size
            task.add_done_callback(lambda task: self._ended(task, size))

    def _too_many(self, size: int) -> bool:
        """Whether a call of so many characters has to wait for another's end; one never has to."""
        full = self._characters + size > CHARACTERS_AT_ONCE
        return len(self._tasks) >= self._config.calls_at_once or (full and bool(self._tasks))

    def _ended(self, task: asyncio.Task[None], size: int) -> None:
        self._tasks.discard(task)
        self._characters -= size

    async def _answer_call(self, worker: Worker, call: Call) -> None:
        try:
            reply = await self._on_call(call)
        except Exception as error:
            reply = CallReply("", RunError(kind="internal", message=str(error)))
        wire = Reply(
            id=call.id,
            text=clean(reply.text),
            error=None if reply.error is None else _plain(reply.error),
            model=reply.model,
            usage=msgspec.structs.asdict(reply.usage),
            cached=reply.cached,
        )
        try:
            await worker.frames.send(msgspec.json.encode(wire))
        except EOFError:
            return  # the process is gone, which the cell itself sees too

    # ---------------------------------------------------------------------------------- the result

    def _done(self, done: Done) -> CellResult:
        status, error = self._stopped or ("error" if done.error else "ok", done.error)
        result = self._result(status, error, kept=True)
        result.answer = clean(done.answer) if done.answer else None
        result.ready = done.ready
        result.read, result.looked_at = done.read, done.looked_at
        result.in_vain = done.in_vain
        return result

    def _died(self, undone: Undone, broken: str) -> CellResult:
        status: Status = "died"
        error = broken or undone.ending or "the REPL process ended"
        if undone.signal == "SIGXCPU":
            limit = f"{self._config.cpu_seconds:,}"
            status = "limit"
            error = f"CpuLimit: the cell used more than {limit} s of processor time"
        if self._stopped is not None:
            status, error = self._stopped
        return self._result(status, error, kept=undone.kept, undone=True)

    def _out_of_memory(self, undone: Undone) -> CellResult:
        limit = f"{self._config.memory:,}"
        error = f"MemoryError: the cell filled its {limit} bytes of memory"
        status: Status = "error"
        if self._stopped is not None:
            status, error = self._stopped
        return self._result(status, error, kept=undone.kept, undone=True)

    def _result(
        self, status: Status, error: str, *, kept: bool, undone: bool = False
    ) -> CellResult:
        return CellResult(
            status=status,
            error=clean(error),
            output=self._clip.text(),
            output_characters=self._clip.characters,
            seconds=0.0,
            kept=kept,
            undone=undone,
            answer=None,
            ready=False,
        )


def _plain(error: RunError) -> dict[str, str]:
    return {name: clean(text) for name, text in msgspec.structs.asdict(error).items()}
