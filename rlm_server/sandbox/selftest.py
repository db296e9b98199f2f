"""Tries a sandbox out from inside: about a dozen canaries, each of which has to be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.sandbox.cell import Cell
from rlm_server.sandbox.clip import Clip
from rlm_server.sandbox.messages import Call, CallReply, Execute
from rlm_server.sandbox.worker import CorpusFiles, Worker

_SECONDS = 10.0
_CONTENT = b"the canary is alive"
_PREFIX = "rlm-canary-"
_STALE = 3600.0
"""Seconds after which no self-test can be at work any more."""

Opener = Callable[[CorpusFiles], Awaitable[Worker]]

_CANARIES = """
import json as _json, os as _os, socket as _socket
_at = _json.loads(context)

def _fork():
    if _os.fork() == 0:
        _os._exit(0)

def _connect(family, address):
    with _socket.socket(family) as sock:
        sock.connect(address)

def _datagram():
    with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", _at["port"]))

def _read_server():
    with open(f"/proc/{_at['pid']}/environ", "rb") as file:
        file.read(1)

_canaries = {
    "read a file outside": lambda: open(_at["file"]).read(),
    "list a directory outside": lambda: _os.listdir(_at["directory"]),
    "write a file outside": lambda: open(_at["directory"] + "/new", "w"),
    "append to a file outside": lambda: open(_at["file"], "a"),
    "truncate a file outside": lambda: _os.truncate(_at["file"], 0),
    "open to truncate": lambda: _os.open(_at["file"], _os.O_RDONLY | _os.O_TRUNC),
    "read the server's environment": _read_server,
    "signal the server": lambda: _os.kill(_at["pid"], 0),
    "connect to the server over TCP": lambda: _connect(
        _socket.AF_INET, ("127.0.0.1", _at["port"])),
    "connect to a local socket": lambda: _connect(_socket.AF_UNIX, _at["socket"]),
    "send a datagram": _datagram,
    "fork": _fork,
    "run a program": lambda: _os.waitpid(_os.posix_spawn("/bin/true", ["true"], {}), 0),
}
_found = {}
for _name, _canary in _canaries.items():
    try:
        _canary()
        _found[_name] = "open"
    except BaseException as _error:
        _found[_name] = type(_error).__name__
FINAL(_json.dumps(_found))
"""


class Verdict(msgspec.Struct):
    """What a trial has shown."""

    canaries: dict[str, str]
    """``open``, or the name of the error that stopped it."""
    checkpoints: bool
    mapped: bool

    @property
    def holes(self) -> list[str]:
        """The canaries that nothing stopped."""
        return [name for name, outcome in self.canaries.items() if outcome == "open"]


class _Files(msgspec.Struct):
    text_path: Path
    index_path: Path
    part: tuple[int, int] | None = None


async def try_out(open_worker: Opener, config: SandboxConfig) -> Verdict:
    """Start a sandbox and try to break out of it; raises SandboxError where it does not work."""
    _clear_away()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with _listener(directory) as (port, path):
            canary = directory / "canary"
            canary.write_bytes(_CONTENT)
            _open_to_all(canary, directory)
            files = _context(
                directory,
                {
                    "file": str(canary),
                    "directory": str(directory),
                    "pid": os.getpid(),
                    "port": port,
                    "socket": path,
                },
            )
            verdict = await _ask(open_worker, files, config)
            if canary.read_bytes() != _CONTENT:
                verdict.canaries["change a file outside"] = "open"
            return verdict
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _clear_away() -> None:
    """Remove what servers that were killed in the midst of this have left."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            facts = left.lstat()
            if facts.st_uid == os.geteuid() and time.time() - facts.st_mtime > _STALE:
                shutil.rmtree(left)


async def _ask(open_worker: Opener, files: _Files, config: SandboxConfig) -> Verdict:
    worker = await open_worker(files)
    try:
        cell = Cell(config, _no_call, lambda stream, text: None, Clip(2000))
        order = Execute(token="", cell=1, code=_CANARIES)
        result = await cell.run(worker, order, _SECONDS)
        if not result.ready or result.answer is None:
            raise SandboxError(f"The self-test did not run: {result.error} {result.output}")
        return Verdict(
            canaries=msgspec.json.decode(result.answer, type=dict[str, str]),
            checkpoints=worker.started.checkpoints,
            mapped=not worker.started.copied,
        )
    except msgspec.MsgspecError as error:
        raise SandboxError(f"The self-test gave no result: {error}") from error
    finally:
        await worker.close()


async def _no_call(call: Call) -> CallReply:
    await asyncio.sleep(0)
    return CallReply("")


def _context(directory: Path, facts: dict[str, object]) -> _Files:
    text = json.dumps(facts)
    header = struct.pack("<8sBB6xQ", b"RLMCTX01", 1, 1, len(text)).ljust(4096, b"\0")
    files = _Files(directory / "text.bin", directory / "documents.json")
    files.text_path.write_bytes(header + text.encode("ascii") + bytes(8))
    index = {"documents": [{"path": "facts", "start": 0, "end": len(text)}]}
    files.index_path.write_text(json.dumps(index))
    return files


def _open_to_all(*paths: Path) -> None:
    """Let everybody do everything: what stops the sandbox has to be the sandbox."""
    for path in paths:
        path.chmod(0o777)


@contextlib.contextmanager
def _listener(directory: Path) -> Iterator[tuple[int, str]]:
    """Listen on loopback and on a local socket while the trial lasts."""
    path = str(directory / "socket")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(path)
        local.listen()
        _open_to_all(Path(path))
        yield tcp.getsockname()[1], path
