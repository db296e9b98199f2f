"""Starts the process that runs cells, hands it the context, and kills it with all it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Protocol

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.sandbox.child import NOBODY
from rlm_server.sandbox.frames import FrameError, Frames, pack
from rlm_server.sandbox.messages import FromCell, Setup, Started

_ROOM = Path(__file__).parent
_START_SECONDS = 20.0

# A package of another name is made of this directory, so that relative imports work without
# importing rlm_server, whose dependencies and path have no business in there.
_BOOT = """
import sys, types
package = types.ModuleType("rlm_sandbox")
package.__path__ = [sys.argv[1]]
sys.modules["rlm_sandbox"] = package
from rlm_sandbox.child import main
main(*(int(value) for value in sys.argv[2:6]), sys.argv[6])
"""


class CorpusFiles(Protocol):
    """What the sandbox needs of a corpus: its two files."""

    @property
    def text_path(self) -> Path:
        """The text, in the form that ``mapped_text`` reads."""

    @property
    def index_path(self) -> Path:
        """The documents, as JSON."""


class Process:
    """One process, its channel and its scratch directory."""

    def __init__(self, process: asyncio.subprocess.Process, scratch: Path) -> None:
        self._process = process
        self._scratch = scratch
        self.frames: Frames[FromCell] = Frames(msgspec.json.Decoder[FromCell](FromCell).decode)

    @classmethod
    async def start(cls, corpus: CorpusFiles, config: SandboxConfig) -> Process:
        """Start a process that has the context open; raises SandboxError."""
        scratch = Path(tempfile.mkdtemp(prefix="rlm-scratch-"))
        if os.getuid() == 0:
            os.chown(scratch, NOBODY, NOBODY)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _spawn(theirs, config, scratch)
        except BaseException as error:
            ours.close()
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, OSError):
                raise SandboxError(f"The REPL process can't be started: {error}.") from error
            raise
        self = cls(process, scratch)
        try:
            await self._introduce(ours, corpus, config)
        except BaseException as error:
            ours.close()
            await self.close()
            if isinstance(error, (OSError, EOFError, FrameError, TimeoutError)):
                raise SandboxError(
                    f"The REPL process did not start: {str(error) or type(error).__name__}.",
                    cure="Run `rlm-server doctor`.",
                ) from error
            raise
        return self

    async def _introduce(
        self, ours: socket.socket, corpus: CorpusFiles, config: SandboxConfig
    ) -> None:
        setup = pack(msgspec.json.encode(Setup(calls_at_once=config.calls_at_once)))
        with corpus.text_path.open("rb") as text, corpus.index_path.open("rb") as index:
            socket.send_fds(ours, [setup], [text.fileno(), index.fileno()])
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.frames, sock=ours)
        async with asyncio.timeout(_START_SECONDS):
            if not isinstance(await self.frames.get(), Started):
                raise FrameError("it did not introduce itself")

    def interrupt(self) -> None:
        """Send SIGINT to the process that runs the cell."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the process and everything in its group; the channel ends at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.frames.end(EOFError())

    async def epitaph(self) -> str:
        """Wait for the end of the process and say how it ended."""
        code = await self._process.wait()
        if code >= 0:
            return f"the REPL process ended with exit code {code}"
        return f"the REPL process was killed by {signal.Signals(-code).name}"

    async def close(self) -> None:
        """Kill everything and remove the scratch directory."""
        self.kill()
        try:
            await asyncio.shield(self._process.wait())
        finally:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)


async def _spawn(
    theirs: socket.socket, config: SandboxConfig, scratch: Path
) -> asyncio.subprocess.Process:
    arguments = [
        str(_ROOM),
        str(theirs.fileno()),
        str(os.getpid()),
        str(config.memory),
        str(config.scratch),
        str(scratch),
    ]
    return await asyncio.create_subprocess_exec(
        *(interpreter(), "-I", "-S", "-X", "utf8", "-c", _BOOT),
        *arguments,
        env={
            "LANG": "C.UTF-8",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "MALLOC_ARENA_MAX": "2",  # each further arena takes 64 MB of the address space
        },
        cwd=scratch,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )


def interpreter() -> str:
    """Return the interpreter itself, not a virtual environment's link to it."""
    base: str | None = getattr(sys, "_base_executable", None)
    return base if base and Path(base).exists() else sys.executable
