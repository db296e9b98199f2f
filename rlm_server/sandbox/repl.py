"""The REPL as the engine sees it: start, run a cell, interrupt it, close."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.protocol import Isolation
from rlm_server.sandbox.cell import Batching, Cell, OnCall, OnOutput
from rlm_server.sandbox.clip import Clip
from rlm_server.sandbox.early import Sure, VoidError
from rlm_server.sandbox.isolation import choose, open_worker
from rlm_server.sandbox.look import look
from rlm_server.sandbox.messages import CellResult, Execute, Looked, ToolStub
from rlm_server.sandbox.worker import CorpusFiles, Worker


class Repl:
    """A namespace in a process of its own.

    One cell runs at a time. Whatever a cell does, ``run`` returns: within its time-out, or a
    moment after it. Where the isolation has checkpoints, a cell that had to be killed leaves the
    namespace as it was before it; otherwise the next cell finds an empty one.
    """

    isolation: str = "untested"
    """How code is contained on this machine; known once a REPL was started."""

    def __init__(
        self,
        corpus: CorpusFiles,
        config: SandboxConfig,
        on_call: OnCall,
        isolation: Isolation,
        tools: Sequence[ToolStub] = (),
    ) -> None:
        self._tools = tools
        self.isolation = isolation.mode
        self._isolation = isolation
        self._corpus = corpus
        self._config = config
        self._on_call = on_call
        self._worker: Worker | None = None
        self._cell: Cell | None = None
        self.cells = 0
        """Cells so far: the output of the last one is in ``_result_N`` of this number."""
        self._seed = 0
        self._renew = False
        self._looking = False
        self._closed = False
        self._lost = False
        self._reply = ""

    @classmethod
    async def start(
        cls,
        corpus: CorpusFiles,
        *,
        config: SandboxConfig,
        on_call: OnCall,
        tools: Sequence[ToolStub] = (),
        seed: int = 0,
    ) -> Repl:
        """Start a sandbox with the corpus open as ``context``, and with functions for the tools.

        ``seed`` is what random numbers begin with: the same cells find the same ones. Raises
        SandboxError where none can be started, or code can't be contained on this machine and the
        configuration does not say that this is all right.
        """
        isolation = await choose(config)
        Repl.isolation = isolation.mode
        self = cls(corpus, config, on_call, isolation, tools)
        self._seed = seed
        self._worker = await self._new_worker()
        self._worker.prepare()
        return self

    async def run(
        self,
        code: str,
        *,
        timeout: float | None,  # noqa: ASYNC109 - the cell is interrupted, not this coroutine cancelled
        on_output: OnOutput,
        show: int = 8000,
        reply: str = "",
        refused: bool = False,
        now: float | None = None,
        batching: Batching | None = None,
        sure: Sure | None = None,
    ) -> CellResult:
        """Run a cell for at most ``timeout`` seconds, which may be changed, and say how it went.

        ``on_output`` gets what is printed while it runs; the result has at most ``show``
        characters of it. ``reply``, in which the model wrote the code, is kept in ``history``.
        ``refused`` says that an answer which was ready is not accepted; it isn't ready any more.
        ``now`` is what the cell's clock says when it begins, by default the time. With
        ``batching``, sub-calls of loops are made ahead of their turns. Raises SandboxError where
        no process can be started.

        With ``sure`` the cell begins before its reply is whole: it is made part of the namespace,
        and its result given, only once that becomes true. Where it becomes false, the cell is
        undone and VoidError raised. It changes no file before.
        """
        self._check_idle()
        self.cells += 1
        order = Execute(
            token="",
            cell=self.cells,
            code=code,
            reply=reply,
            refused=refused,
            renew=self._renew,
            now=time.time() if now is None else now,
            seed=self._seed,
            before=self._reply,
            early=sure is not None,
        )
        cell = self._cell = Cell(self._config, self._on_call, on_output, Clip(show), batching)
        try:
            worker, lost = await self._ready_worker()
            result = await cell.run(worker, order, timeout, sure)
            self._renew = self._renew and result.undone
        except VoidError as void:
            self.cells -= 1
            self._lost = lost or not void.kept
            await self._discard_unless(void.kept)
            raise
        except BaseException:
            await self._discard()  # nobody waits for the cell any more
            raise
        finally:
            self._cell = None
        if not result.undone:
            self._reply = ""  # the namespace has it now
        await self._discard_unless(result.kept)
        result.kept, self._lost = result.kept and not lost, False
        return result

    @property
    def undoes(self) -> bool:
        """Whether a cell that has run can be undone."""
        return self._worker is not None and self._worker.started.checkpoints

    def complete(self, reply: str) -> None:
        """Say which reply the last cell stood in, where that was not whole when it began."""
        self._reply = reply

    def renew(self) -> None:
        """Let the next cell find ``answer`` as it was at first, for another question."""
        self._renew = True

    async def look(self, name: str | None, *, start: int = 0, length: int = 0) -> Looked:
        """Describe a variable, a page of its text, or with None the first ``length`` of all.

        Has no effect on the namespace, whatever the variables do when they are looked at. Raises
        SandboxError where that can't be done, also while a cell runs.
        """
        return await self._look(name, start=start, length=length)

    async def settle(self) -> int:
        """End the threads that cells have left; return the bytes of memory in use.

        Raises SandboxError where there is no namespace.
        """
        return (await self._look(None, keep=True)).memory

    async def _look(
        self, name: str | None, *, start: int = 0, length: int = 0, keep: bool = False
    ) -> Looked:
        self._check_idle()
        self._looking = True
        try:
            worker = self._worker
            if worker is None or not (worker.usable or (await worker.undo()).kept):
                raise SandboxError("Nothing can be shown: the REPL process has ended.")
            try:
                return await look(worker, name, start, length, keep=keep)
            except SandboxError:
                if not worker.usable:
                    raise
            # Some variable is hostile: once more, without asking any what it is.
            return await look(worker, name, start, length, trusting=False, keep=keep)
        finally:
            self._looking = False
            if not keep and worker is not None and worker.usable:
                worker.prepare()

    def _check_idle(self) -> None:
        if self._closed:
            raise SandboxError("The REPL is closed.")
        if self._cell is not None or self._looking:
            raise SandboxError("Another cell is running.")

    def allow(self, seconds: float | None) -> None:
        """Let the running cell take so many seconds from now on, whatever it was given before.

        None: as long as it takes, until another word.
        """
        if self._cell is not None:
            self._cell.allow(seconds)

    async def skip(self, *, kept: bool) -> None:
        """Count a cell without running it; unless ``kept``, what earlier ones made is lost."""
        self.cells += 1
        if not kept:
            await self.forget()

    async def forget(self) -> None:
        """Let the next cell find an empty namespace."""
        await self._discard()

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

    async def _ready_worker(self) -> tuple[Worker, bool]:
        """Return a worker, and whether variables were lost between two cells."""
        worker = self._worker
        lost = worker is not None and not worker.usable and not (await worker.undo()).kept
        if lost:
            await self._discard()
        lost = lost or self._lost
        if self._worker is None:  # the last cell was killed, and its variables with it
            self._worker = await self._new_worker()
        return self._worker, lost

    async def _new_worker(self) -> Worker:
        try:
            return await self._open()
        except SandboxError:  # a start may fail by chance, under load; once more, then give up
            return await self._open()

    async def _open(self) -> Worker:
        return await open_worker(self._isolation.mode, self._corpus, self._config, self._tools)

    async def _discard_unless(self, kept: bool) -> None:
        if kept and self._worker is not None:
            self._worker.prepare()
        else:
            await self._discard()

    async def _discard(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()
