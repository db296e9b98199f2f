"""The REPL as the engine sees it: start, run a cell, interrupt it, close."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.protocol import RunError
from rlm_server.sandbox.clip import Clip
from rlm_server.sandbox.frames import FrameError
from rlm_server.sandbox.launch import CorpusFiles, Process
from rlm_server.sandbox.messages import (
    Call,
    CallReply,
    CellResult,
    Done,
    Execute,
    Output,
    Reply,
    Status,
    Stream,
    sanitize,
)

ISOLATION = "process"
GRACE_SECONDS = 0.05

OnCall = Callable[[Call], Awaitable[CallReply]]
OnOutput = Callable[[Stream, str], None]


class Repl:
    """A namespace in a process of its own.

    One cell runs at a time. Whatever a cell does, ``run`` returns: within its time-out, or a grace
    of 50 ms after it.
    """

    isolation = ISOLATION

    def __init__(self, corpus: CorpusFiles, config: SandboxConfig, on_call: OnCall) -> None:
        self._corpus = corpus
        self._config = config
        self._on_call = on_call
        self._process: Process | None = None
        self._cell: _Cell | None = None
        self._cells = 0
        self._closed = False

    @classmethod
    async def start(cls, corpus: CorpusFiles, *, config: SandboxConfig, on_call: OnCall) -> Repl:
        """Start the process with the corpus open as ``context``; raises SandboxError."""
        self = cls(corpus, config, on_call)
        self._process = await self._new_process()
        return self

    async def run(
        self,
        code: str,
        *,
        timeout: float,  # noqa: ASYNC109 - the cell is interrupted, not this coroutine cancelled
        on_output: OnOutput,
        show: int = 8000,
    ) -> CellResult:
        """Run a cell for at most ``timeout`` seconds and say how it went.

        ``on_output`` gets what is printed while it runs; the result has at most ``show``
        characters of it. Raises SandboxError where no process can be started.
        """
        if self._closed:
            raise SandboxError("The REPL is closed.")
        if self._cell is not None:
            raise SandboxError("Another cell is running.")
        self._cells += 1
        cell = self._cell = _Cell(self._config, self._on_call, on_output, Clip(show))
        try:
            if self._process is None:  # the last cell was killed, and its variables with it
                self._process = await self._new_process()
            result = await cell.run(self._process, self._cells, code, timeout)
        except BaseException:
            await self._discard()  # nobody waits for the cell any more
            raise
        finally:
            self._cell = None
        if not result.kept:
            await self._discard()
        return result

    def interrupt(self) -> None:
        """Stop the running cell; its status will be ``cancelled``. Without one, do nothing."""
        if self._cell is not None:
            self._cell.stop("cancelled", "KeyboardInterrupt: the cell was cancelled")

    async def close(self) -> None:
        """Kill the process with all that it started, and remove its scratch directory."""
        self._closed = True
        if self._cell is not None:
            self._cell.stop("cancelled", "the REPL was closed")
        await self._discard()

    async def _new_process(self) -> Process:
        try:
            return await Process.start(self._corpus, self._config)
        except SandboxError:  # a start may fail by chance, under load; once more, then give up
            return await Process.start(self._corpus, self._config)

    async def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.close()


class _Cell:
    """One cell while it runs: the clock, the calls in flight, and what it has printed."""

    def __init__(
        self, config: SandboxConfig, on_call: OnCall, on_output: OnOutput, clip: Clip
    ) -> None:
        self._config = config
        self._on_call = on_call
        self._on_output = on_output
        self._clip = clip
        self._token = secrets.token_hex(8)
        self._process: Process | None = None
        self._stopped: tuple[Status, str] | None = None
        self._over = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._printed = 0
        self._timers: list[asyncio.TimerHandle] = []

    def stop(self, status: Status, reason: str) -> None:
        """Interrupt the cell, and kill its process when that does not end it soon."""
        if self._stopped is not None:
            return
        self._stopped = (status, reason)
        if self._process is not None:
            self._carry_out()

    def _carry_out(self) -> None:
        assert self._process is not None
        self._process.interrupt()
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(GRACE_SECONDS, self._kill))

    def _kill(self) -> None:
        assert self._process is not None
        self._over.set()
        self._process.kill()

    async def run(self, process: Process, number: int, code: str, seconds: float) -> CellResult:
        self._process = process
        begun = time.monotonic()
        loop = asyncio.get_running_loop()
        reason = f"TimeoutError: the cell ran longer than {seconds:g} seconds"
        self._timers.append(loop.call_later(seconds, self.stop, "timeout", reason))
        try:
            order = Execute(token=self._token, cell=number, code=sanitize(code))
            await process.frames.send(msgspec.json.encode(order))
            if self._stopped is not None:  # before there was a process to stop
                self._carry_out()
            done = await self._follow(process)
            result = self._result(done, "")
        except EOFError:
            result = self._result(None, await process.epitaph())
        except FrameError as error:
            process.kill()
            result = self._result(None, f"the REPL process broke the protocol: {error}")
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in self._calls:
                task.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
        result.seconds = time.monotonic() - begun
        return result

    async def _follow(self, process: Process) -> Done:
        """Serve the cell until it says that it is done."""
        while True:
            message = await process.frames.get()
            if isinstance(message, Output) and message.token == self._token:
                self._take_output(message)
            elif isinstance(message, Call) and message.token == self._token:
                await self._take_call(process, message)
            elif isinstance(message, Done) and message.token == self._token:
                return message

    def _take_output(self, message: Output) -> None:
        self._printed += len(message.text)
        if self._printed > self._config.output:
            limit = f"{self._config.output:,}"
            self.stop("limit", f"OutputLimit: the cell printed more than {limit} characters")
            return
        text = sanitize(message.text)
        self._clip.add(text)
        self._on_output(message.stream, text)

    async def _take_call(self, process: Process, call: Call) -> None:
        """Start a call. With too many in flight nothing more is read, but the clock goes on."""
        while len(self._calls) >= self._config.calls_at_once and not self._over.is_set():
            over = asyncio.ensure_future(self._over.wait())
            try:
                await asyncio.wait({over, *self._calls}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                over.cancel()
        if self._stopped is None:
            task = asyncio.create_task(self._answer_call(process, call))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _answer_call(self, process: Process, call: Call) -> None:
        try:
            reply = await self._on_call(call)
        except Exception as error:
            reply = CallReply("", RunError(kind="internal", message=str(error)))
        wire = Reply(
            id=call.id,
            text=sanitize(reply.text),
            error=None if reply.error is None else _plain(reply.error),
            model=reply.model,
            usage=msgspec.structs.asdict(reply.usage),
            cached=reply.cached,
        )
        try:
            await process.frames.send(msgspec.json.encode(wire))
        except EOFError:
            return  # the process is gone, which the cell's own loop sees too

    def _result(self, done: Done | None, ending: str) -> CellResult:
        status: Status = "ok"
        error = ""
        if done is not None and done.error:
            status, error = "error", done.error
        if done is None:
            status, error = "died", ending
        if self._stopped is not None:
            status, error = self._stopped
        return CellResult(
            status=status,
            error=sanitize(error),
            output=self._clip.text(),
            output_characters=self._clip.characters,
            seconds=0.0,
            kept=done is not None,
            answer=sanitize(done.answer) if done is not None and done.answer else None,
            ready=done is not None and done.ready,
        )


def _plain(error: RunError) -> dict[str, str]:
    return {name: sanitize(text) for name, text in msgspec.structs.asdict(error).items()}
