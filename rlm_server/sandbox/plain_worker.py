"""A worker without zygote and checkpoints: one process, killed with all it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.sandbox.confine import NOBODY
from rlm_server.sandbox.frames import FrameError
from rlm_server.sandbox.launch import ENVIRONMENT, command
from rlm_server.sandbox.messages import Started, ToolStub
from rlm_server.sandbox.worker import CorpusFiles, Undone, introduce, new_frames, nothing


class PlainWorker:
    """One process, its channel and its scratch directory."""

    def __init__(self, process: asyncio.subprocess.Process, scratch: Path) -> None:
        self._process = process
        self._scratch = scratch
        self.frames = new_frames()
        self.started = Started(copied=False, checkpoints=False)
        self.on_over_quota = nothing

    @classmethod
    async def start(
        cls,
        corpus: CorpusFiles,
        config: SandboxConfig,
        request: dict[str, Any],
        tools: Sequence[ToolStub],
    ) -> PlainWorker:
        """Start a process that has the context open; raises SandboxError."""
        scratch = Path(tempfile.mkdtemp(prefix="rlm-scratch-"))
        if os.getuid() == 0:
            os.chown(scratch, NOBODY, NOBODY)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _spawn(theirs, scratch, request)
        except BaseException as error:
            ours.close()
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, OSError):
                raise SandboxError(f"The REPL process can't be started: {error}.") from error
            raise
        self = cls(process, scratch)
        try:
            self.started = await introduce(self.frames, ours, corpus, config, tools)
        except BaseException as error:
            ours.close()
            await self.close()
            if isinstance(error, (OSError, EOFError, FrameError, TimeoutError)):
                reason = str(error) or type(error).__name__
                raise SandboxError(f"The REPL process did not start: {reason}.") from error
            raise
        return self

    @property
    def usable(self) -> bool:
        """Whether it can take another cell."""
        return self._process.returncode is None and not self.frames.ended

    def prepare(self) -> None:
        """Nothing to prepare."""

    async def begin(self, order: bytes) -> None:
        """Send it."""
        await self.frames.send(order)

    def commit(self) -> None:
        """Nothing to forget."""

    def interrupt(self) -> None:
        """Send SIGINT to the process."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the process and everything in its group; the channel ends at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.frames.end(EOFError())

    async def undo(self) -> Undone:
        """Wait for the end of the process and say how it ended; nothing can be kept."""
        self.kill()
        code = await self._process.wait()
        if code >= 0:
            return Undone(False, f"the REPL process ended with exit code {code}")
        name = signal.Signals(-code).name
        return Undone(False, f"the REPL process was killed by {name}", name)

    async def close(self) -> None:
        """Kill everything and remove the scratch directory."""
        self.kill()
        try:
            await asyncio.shield(self._process.wait())
        finally:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)


async def _spawn(
    theirs: socket.socket, scratch: Path, request: dict[str, Any]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command("plain", theirs.fileno(), os.getpid(), json.dumps(request), str(scratch)),
        env=ENVIRONMENT,
        cwd=scratch,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
