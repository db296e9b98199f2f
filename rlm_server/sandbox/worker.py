"""What a cell needs of the process that runs it, however that is contained."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.sandbox.frames import FrameError, Frames, pack
from rlm_server.sandbox.messages import Fatal, FromCell, Restored, Setup, Started, ToolStub

START_SECONDS = 20.0
RESTORE_SECONDS = 30.0
"""Mostly a few milliseconds; removing what filled the scratch directory may take longer."""

_decode = msgspec.json.Decoder[FromCell](FromCell).decode


class CorpusFiles(Protocol):
    """What the sandbox needs of a corpus: its two files."""

    @property
    def text_path(self) -> Path:
        """The text, in the form that ``mapped_text`` reads."""

    @property
    def index_path(self) -> Path:
        """The documents, as JSON."""

    @property
    def part(self) -> tuple[int, int] | None:
        """The part of the text that is the context, in characters; None: all of it."""


class Undone(msgspec.Struct):
    """What came of killing a cell."""

    kept: bool
    """Whether the variables of earlier cells are still there."""
    ending: str = ""
    """How the cell's process ended, as far as it is known."""
    signal: str = ""
    """Name of the signal that ended it."""


class Worker(Protocol):
    """A process that holds a namespace."""

    frames: Frames[FromCell]
    started: Started
    on_over_quota: Callable[[], None]
    """Called when its scratch directory is too full; a cell puts its own here."""

    @property
    def usable(self) -> bool:
        """Whether it can take another cell."""

    def prepare(self) -> None:
        """Make the way back from the next cell ahead of it, where that is possible."""

    async def begin(self, order: bytes) -> None:
        """Send a cell, or a look; raises EOFError where the process is gone."""

    def interrupt(self) -> None:
        """Send the cell SIGINT."""

    def kill(self) -> None:
        """End the channel; ``undo`` or ``close`` has to follow."""

    def commit(self) -> None:
        """The cell went well: forget the way back."""

    async def undo(self) -> Undone:
        """Kill the cell and return to the namespace before it, where that is possible."""

    async def close(self) -> None:
        """Kill everything and remove the scratch directory; idempotent."""


def new_frames() -> Frames[FromCell]:
    """Return a channel that understands what the process may say."""
    return Frames(_decode)


async def attach(frames: Frames[FromCell], sock: socket.socket) -> None:
    """Let the event loop serve this socket through these frames."""
    sock.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: frames, sock=sock)


async def introduce(
    frames: Frames[FromCell],
    sock: socket.socket,
    corpus: CorpusFiles,
    config: SandboxConfig,
    tools: Sequence[ToolStub],
) -> Started:
    """Hand over the context, name the tools, and wait until all is ready.

    Raises OSError, EOFError, FrameError or TimeoutError.
    """
    order = Setup(calls_at_once=config.calls_at_once, part=corpus.part, tools=tools)
    setup = pack(msgspec.json.encode(order))
    with corpus.text_path.open("rb") as text, corpus.index_path.open("rb") as index:
        socket.send_fds(sock, [setup], [text.fileno(), index.fileno()])
    await attach(frames, sock)
    async with asyncio.timeout(START_SECONDS):
        message = await frames.get()
    if isinstance(message, Fatal):
        raise FrameError(message.error)
    if not isinstance(message, Started):
        raise FrameError("it did not introduce itself")
    return message


async def restored(frames: Frames[FromCell]) -> int | None:
    """Wait until the twin says that it is awake, and return how the cell's process ended.

    Raises EOFError, FrameError or TimeoutError.
    """
    async with asyncio.timeout(RESTORE_SECONDS):
        message = await frames.get()
    if not isinstance(message, Restored):
        raise FrameError("it did not come back")
    return message.ending


def nothing() -> None:
    """Where nobody wants to know."""


def shut(*sockets: socket.socket) -> None:
    """Close sockets, whatever state they are in."""
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.close()
