"""The process that holds a namespace takes orders: to run a cell, to look, to fork ahead.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # without the enumerations, which take longer
import os
import signal
import socket
import threading
import warnings

from .at_fork import for_threads
from .channel import Channel, Interrupts, clean
from .child import Repl
from .forks import revive_thread_pools_after_forks
from .mapped_text import Context, open_context

_threads = threading.active_count


def say_fatal(sock: socket.socket, text: str) -> None:
    """Tell the server that this process could not even start."""
    try:
        Channel(sock, Interrupts()).send({"type": "fatal", "error": clean(text)[:1000]})
    except OSError:
        os._exit(1)


def serve(sock: socket.socket, rescue: socket.socket | None) -> None:
    """Take the context, then run cells, each in a fork where there is a socket to be rescued by.

    The fork is made ahead of the cell, as soon as the server asks for it.
    """
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # of forks with threads
    revive_thread_pools_after_forks()
    interrupts = Interrupts()
    signal.signal(signal.SIGINT, interrupts.handler)
    channel = Channel(sock, interrupts)
    context, tools = _take_context(sock, channel, rescue is not None)
    repl = Repl(channel, interrupts, context, tools)
    for_threads(channel.after_fork)
    for_threads(repl.after_fork)
    ready = rescue is None
    forked = False
    while True:
        order = channel.order()
        ahead = order["type"] == "prepare"
        # Threads don't cross a fork; those that cells have left may go on until the next cell.
        if rescue is not None and not ready and not (ahead and _threads() > 1):
            split = _split(channel, rescue)
            if split is None:
                continue  # this was the twin, and the cell never happened
            ready, forked = True, split
            if ahead and not channel.pending():
                repl.warm()
        if not ahead:
            channel.token = order["token"]
            looks = order["type"] == "look"
            done = repl.look(order, forked=forked) if looks else repl.run(order)
            ready, forked = rescue is None, False
            channel.send(done)


def _split(channel: Channel, rescue: socket.socket) -> bool | None:
    """Fork: True in the child, which runs the cell; None in the parent, once it is rescued.

    The parent is stopped meanwhile, and mostly killed when the cell went well. False where no
    fork was granted: then the cell runs without a way back.
    """
    rescue.setblocking(True)  # an earlier cell may have meddled with it
    # An interrupt would end the system call, which waits for leave, and so refuse the fork.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT})
    try:
        process = os.fork()
    except OSError:
        return False
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    if process == 0:
        rescue.send(b"A")
        return True
    _, fds, _, _ = socket.recv_fds(rescue, 1, 1)
    if not fds:
        os._exit(0)
    ended, status = os.waitpid(process, os.WNOHANG)
    channel.after_fork(socket.socket(fileno=fds[0]))
    ending = os.waitstatus_to_exitcode(status) if ended else None
    channel.send({"type": "restored", "ending": ending})
    return None


def _take_context(
    sock: socket.socket, channel: Channel, checkpoints: bool
) -> tuple[Context, list[dict[str, str]]]:
    data, fds, _, _ = socket.recv_fds(sock, 65536, 2)
    if not data:
        os._exit(0)
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        data += sock.recv(65536)
    setup = channel.decode(data[4:])
    channel.window = setup["calls_at_once"]
    context, copied = open_context(fds[0], fds[1], setup["part"])
    for fd in fds:
        os.close(fd)
    channel.send({"type": "started", "copied": copied, "checkpoints": checkpoints})
    return context, setup["tools"]
