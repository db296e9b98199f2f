"""Serving: the JSON-RPC door on standard input and output, or on a loopback TCP port."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import os
import secrets
import selectors
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rlm_server.config import state_dir
from rlm_server.doors.jsonrpc import Session
from rlm_server.doors.wire import MAX_HEADER, Wire
from rlm_server.engine.service import Engine
from rlm_server.errors import ConfigError

logger = logging.getLogger(__name__)

_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20


def guard_stdout() -> int:
    """Give libraries that print another standard output; return the true one's descriptor.

    300 bytes of stray text on the JSON-RPC stream would end the client's connection for good.
    """
    true_stdout = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return true_stdout


async def serve_stdio(engine: Engine, stdout: int) -> None:
    """Serve one client on standard input and the descriptor ``stdout`` until it goes away."""
    for descriptor in (0, stdout):
        # Ten megabytes from Emacs take 0.5 s instead of several through a pipe of this size.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_HEADER)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)  # /dev/null can't be waited for
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(stdout, "wb", 0)
        )
    except (ValueError, PermissionError) as error:
        raise ConfigError(
            "Standard input and output must be pipes, sockets or terminals.",
            cure="Let an editor start the server, or use --tcp 127.0.0.1:0.",
        ) from error
    wire = Wire(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    await _until_signal(Session(engine, wire).run())


async def serve_tcp(engine: Engine, host: str, port: int, token_file: Path | None) -> None:
    """Serve any number of clients on a loopback port; runs outlive the clients that started them.

    The token that clients must send is written to ``token_file``, readable by this user only.
    Raises ConfigError for an address that isn't loopback or can't be bound.
    """
    token = secrets.token_hex(32)
    sessions: set[asyncio.Task[None]] = set()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        sessions.add(task)
        task.add_done_callback(sessions.discard)
        await Session(engine, Wire(reader, writer), token=token).run()

    try:
        server = await asyncio.start_server(
            on_client, _loopback(host), port, limit=MAX_HEADER, family=socket.AF_UNSPEC
        )
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} can't be bound: {error.strerror}.", cure="Choose another port."
        ) from error
    bound = server.sockets[0].getsockname()[1]
    token_file = token_file or state_dir() / f"tcp-{bound}.token"
    _write_private(token_file, token)
    print(f"rlm-server listens on {host}:{bound}, token in {token_file}", file=sys.stderr)
    try:
        async with server:
            await _until_signal(server.serve_forever())
    finally:
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        token_file.unlink(missing_ok=True)


def parse_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT; raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{text!r} is no HOST:PORT.", cure="Try --tcp 127.0.0.1:0.")
    return host.strip("[]") or "127.0.0.1", int(port)


def _loopback(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ConfigError(
        f"{host!r} is not a loopback address.",
        cure="Listen on 127.0.0.1 and reach it from elsewhere through ssh -L.",
    )


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` until it ends, or until a signal asks to stop.

    SIGHUP is how an editor that exits ends its processes. What is ignored, as by nohup, stays so.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
