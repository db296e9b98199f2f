"""A worker behind a zygote and a guardian: contained, warm, and with a way back from every cell."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.sandbox.frames import FrameError
from rlm_server.sandbox.messages import Prepare, Started, ToolStub
from rlm_server.sandbox.pool import Seed
from rlm_server.sandbox.worker import (
    RESTORE_SECONDS,
    CorpusFiles,
    Undone,
    attach,
    introduce,
    new_frames,
    nothing,
    restored,
    shut,
)

_CLOSE_SECONDS = 30.0
_PREPARE = msgspec.json.encode(Prepare())


class LinuxWorker:
    """One sandbox as the server sees it: a data socket, and the guardian's."""

    def __init__(self, seed: Seed) -> None:
        self._guardian = seed.guardian
        self._guardian.setblocking(False)
        self.frames = new_frames()
        self.started = Started(copied=False, checkpoints=False)
        self.on_over_quota = nothing
        self._lost = ""  # why the namespace is gone
        self._prepared = False
        self._granted = False  # as a cell that went well is told of
        self._undoing: asyncio.Future[bool] | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._guardian, self._on_guardian)

    @classmethod
    async def start(
        cls, seed: Seed, corpus: CorpusFiles, config: SandboxConfig, tools: Sequence[ToolStub]
    ) -> LinuxWorker:
        """Hand the context to a sandbox that waits for one; raises SandboxError."""
        self = cls(seed)
        try:
            self.started = await introduce(self.frames, seed.data, corpus, config, tools)
        except BaseException as error:
            seed.data.close()
            await asyncio.sleep(0)  # the guardian may have said why
            await self.close()
            if isinstance(error, (OSError, EOFError, FrameError, TimeoutError)):
                reason = self._lost or str(error) or type(error).__name__
                raise SandboxError(f"The sandbox did not start: {reason}.") from error
            raise
        return self

    @property
    def usable(self) -> bool:
        """Whether it can take another cell."""
        return not self._lost and not self.frames.ended

    def prepare(self) -> None:
        """Let the guardian grant one fork, and have it made; the model thinks meanwhile."""
        if not self._prepared:
            self._prepared = True
            if not self._granted:
                self._order(b"E")
            self._granted = False
            if self.started.checkpoints:
                self.frames.post(_PREPARE)

    async def begin(self, order: bytes) -> None:
        """Send it, and let the guardian watch what it writes."""
        self.prepare()
        await self.frames.send(order)
        self._order(b"B")

    def interrupt(self) -> None:
        """Have the cell interrupted."""
        self._order(b"I")

    def commit(self) -> None:
        """Have the twin buried, and the next fork granted."""
        self._prepared, self._granted = False, True
        self._order(b"M")

    def kill(self) -> None:
        """End the channel; the guardian kills when it is told by ``undo`` or ``close``."""
        self.frames.end(EOFError())

    async def undo(self) -> Undone:
        """Have the cell killed and the twin woken, and speak with that one from now on."""
        self.kill()
        self._prepared = self._granted = False
        if self._lost or not self.started.checkpoints:
            return Undone(False, self._lost)
        ours, theirs = socket.socketpair()
        self._undoing = self._loop.create_future()
        try:
            with theirs:
                socket.send_fds(self._guardian, [b"K"], [theirs.fileno()])
            async with asyncio.timeout(RESTORE_SECONDS):
                if not await self._undoing:
                    ours.close()
                    return Undone(False, self._lost or "there was no checkpoint")
            self.frames = new_frames()
            await attach(self.frames, ours)
            return _undone(await restored(self.frames))
        except (OSError, EOFError, FrameError, TimeoutError) as error:
            ours.close()
            return Undone(False, self._lost or f"the checkpoint failed: {type(error).__name__}")
        except BaseException:
            ours.close()
            raise
        finally:
            self._undoing = None

    async def close(self) -> None:
        """Let the guardian kill everything and clean up, and wait until it has."""
        self.frames.end(EOFError())
        if self._ended.is_set() and self._guardian.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._guardian.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            pass  # closing the socket says the same again
        finally:
            self._loop.remove_reader(self._guardian)
            shut(self._guardian)
            self._ended.set()

    # ------------------------------------------------------------------------------- the guardian

    def _order(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # its end is seen by the reader
            self._guardian.send(word)

    def _on_guardian(self) -> None:
        try:
            word = self._guardian.recv(2048)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if not word:
            self._loop.remove_reader(self._guardian)
            self._lose("the sandbox has ended")
            self._ended.set()
        elif word == b"X":
            self.frames.end(EOFError())
        elif word == b"D":
            self._lose("the REPL process ended")
        elif word in (b"R", b"L") and self._undoing is not None and not self._undoing.done():
            self._undoing.set_result(word == b"R")
        elif word == b"Q":
            self.on_over_quota()
        elif word.startswith(b"F"):
            self._lose(word[1:].decode("utf-8", "replace"))

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self.frames.end(EOFError())
        if self._undoing is not None and not self._undoing.done():
            self._undoing.set_result(False)


def _undone(ending: int | None) -> Undone:
    if ending is None:
        return Undone(True, "the cell's process ended")
    if ending >= 0:
        return Undone(True, f"the cell's process ended with exit code {ending}")
    try:
        name = signal.Signals(-ending).name
    except ValueError:
        name = f"signal {-ending}"
    return Undone(True, f"the cell's process was killed by {name}", name)
