"""The guardian of one sandbox: small, trusted, and never blocked by what it guards.

It starts the process that holds the namespace, lets exactly one fork a cell happen, stops the
process that stays behind (the *twin*), and either buries the twin when the cell went well or kills
the cell and wakes the twin. When the server's socket closes, for whatever reason, it kills
everything and removes the scratch directory. In full isolation it is the first process of its
process table, so that not even the kernel lets anything survive it.

Runs outside the sandbox's restrictions, as the sandbox's user: standard library only.

The server says, one letter a packet: E the process may fork for the next cell, B that cell
begins, M it went well and the process may fork for the next one, I interrupt it, K kill it (with a
descriptor of a new socket for the twin). It is told: X the cell's process ended, D the namespace is
gone, R the twin is awake, L there was none, Q the scratch directory is too full, F and a text: the
sandbox can't be started.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable

from . import processes, scratch, seccomp, system
from .packets import CREDENTIALS, NOW, ONE_DESCRIPTOR, readable, receive, unpack

_PATIENCE = 8
"""Messages that are read from a sandbox in one cell; it has no honest use for more than two."""
_FULL_SOCKET = 400
"""Reads that empty a full socket, however it was filled."""
_WATCH_SECONDS = 0.25
_UNBURIED_SECONDS = 0.02

Start = Callable[[socket.socket], None]


class Guardian:
    """Runs until the server goes away."""

    def __init__(self, server: socket.socket, directory: str, quota: int) -> None:
        """Prepare; ``directory`` is kept below ``quota`` bytes and removed at the end, if given."""
        self._server = server
        self._directory = directory
        # One file may be as large as the quota, so its neighbours need a little more.
        self._quota = quota + quota // 8 + (1 << 20)
        self._rescue, self._theirs = socket.socketpair()
        self._rescue.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._gate = -1
        self._pidfd = -1
        self._stable = self._active = self._early = 0
        self._past = 0  # the twin of a cell that went well, as long as it is not buried
        self._tokens = 0
        self._since = 0.0
        self._patience = _PATIENCE
        self._listening = True
        self._busy = False
        self._poll = select.poll()

    def run(self, start: Start, data: socket.socket) -> None:
        """Start the namespace's process with ``start`` and guard it; does not return.

        ``data`` is that process's socket, which nobody else may hold.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
        processes.go_first()
        child = os.fork()
        if child == 0:
            self._server.close()
            self._rescue.close()
            processes.give_way()
            start(self._theirs)
            os._exit(1)
        self._theirs.close()
        data.close()
        self._stable = self._active = child
        self._poll.register(self._server, select.POLLIN)
        self._poll.register(self._rescue, select.POLLIN)
        self._watch(child)
        while True:
            for fd, _ in self._poll.poll(self._patient()):
                self._handle(fd)
            if self._past and self._settled():
                self._bury_twin()
            if self._watching():
                self._check_scratch()
            processes.bury()

    def _handle(self, fd: int) -> None:
        if fd == self._server.fileno():
            self._on_server()
        elif fd == self._rescue.fileno():
            self._on_sandbox()
        elif fd == self._gate:
            self._on_fork()
        elif fd == self._pidfd:
            self._on_death()

    # ----------------------------------------------------------------------------- from the server

    def _on_server(self) -> None:
        try:
            order, fds = receive(self._server)
        except BlockingIOError:
            return
        except OSError:
            order, fds = b"", []
        if not order:
            self._end()
        # What the sandbox announced before this order has to be known first.
        while self._listening and readable(self._rescue):
            self._on_sandbox()
        if order == b"E":
            self._grant()
        elif order == b"B":
            self._busy = True
        elif order == b"M":
            self._commit()
            self._grant()
        elif order == b"I":
            processes.send(self._active, signal.SIGINT)
        elif order == b"K":
            self._restore(fds)
        for fd in fds:
            os.close(fd)

    def _grant(self) -> None:
        """Let the process fork once, for the next cell."""
        if self._gate >= 0:  # nobody can have forked for this cell yet
            self._listen_again()
        self._patience, self._tokens = _PATIENCE, 1

    def _commit(self) -> None:
        """The cell went well: its process is the namespace now."""
        self._busy = False
        self._bury_twin()
        if self._active != self._stable:
            # It is stopped; its end would take time away from the fork that comes now.
            self._past, self._since = self._stable, time.monotonic()
            self._stable = self._active
        if self._early:
            self._follow(self._early)
            self._early = 0

    def _bury_twin(self) -> None:
        if self._past:
            processes.send(self._past, signal.SIGKILL)
            self._past = 0

    def _settled(self) -> bool:
        """Whether the next cell's fork has been made, or was waited for long enough."""
        forked = self._active != self._stable
        return forked or time.monotonic() - self._since > _UNBURIED_SECONDS

    def _patient(self) -> float | None:
        """Milliseconds after which to look around though nothing happens."""
        if self._past:
            return _UNBURIED_SECONDS * 1000
        return _WATCH_SECONDS * 1000 if self._watching() else None

    def _restore(self, fds: list[int]) -> None:
        """Kill the cell and wake the twin, to speak through the new socket."""
        self._busy = False
        self._tokens = self._early = 0
        self._bury_twin()
        if self._active == self._stable:
            self._say(b"L")
            return
        self._kill_all(keep=self._stable)
        self._active = self._stable
        self._watch(self._stable)
        self._listen_again()
        if self._directory and self._too_full(self._stable):
            scratch.empty(self._directory)
        processes.send(self._stable, signal.SIGCONT)
        socket.send_fds(self._rescue, [b"R"], fds)
        self._say(b"R")

    def _end(self) -> None:
        self._kill_all(keep=0)
        if self._directory:
            scratch.empty(self._directory)
            try:
                os.rmdir(self._directory)
            except OSError:
                os._exit(1)
        os._exit(0)

    def _say(self, word: bytes) -> None:
        try:
            self._server.send(word, socket.MSG_DONTWAIT)
        except OSError:
            self._end()

    # ---------------------------------------------------------------------------- from the sandbox

    def _on_sandbox(self) -> None:
        size = CREDENTIALS + ONE_DESCRIPTOR
        try:
            data, extras, _, _ = self._rescue.recvmsg(1, size, NOW)
        except BlockingIOError:
            return
        except OSError:
            data, extras = b"", []
        self._patience -= 1
        if not data or self._patience < 0:  # whoever floods is not listened to any more
            self._stop_listening()
            return
        process, fds = unpack(extras)
        if data == b"L" and fds and self._gate < 0:
            self._gate = fds.pop()
            seccomp.wake_in_turn(self._gate)
            self._poll.register(self._gate, select.POLLIN)
        elif data == b"A" and process not in (0, self._stable, self._active):
            if self._active == self._stable:
                self._follow(process)
            elif self._gate < 0:  # without a gate it need not wait until the last cell is settled
                self._early = process
        for fd in fds:
            os.close(fd)

    def _follow(self, process: int) -> None:
        """A cell's process has split off: the other one is its twin."""
        self._active = process
        self._watch(process)
        # The threads that the twin may still have must not use the socket that both share.
        processes.send(self._stable, signal.SIGSTOP)

    def _on_fork(self) -> None:
        if not readable(self._gate):
            return
        try:
            number, process = seccomp.question(self._gate)
        except OSError:
            return
        while readable(self._server):  # the token may be on its way
            self._on_server()
        allow = self._tokens > 0 and process == self._stable == self._active
        if allow:
            self._tokens -= 1
        try:
            seccomp.answer(self._gate, number, allow=allow)
        except OSError:
            return

    def _on_death(self) -> None:
        # What was handled just before may have put another process under the same number.
        if not readable(self._pidfd):
            return
        self._poll.unregister(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._busy = False
        self._say(b"D" if self._active == self._stable else b"X")

    def _stop_listening(self) -> None:
        if self._listening:
            self._poll.unregister(self._rescue)
            self._listening = False

    def _listen_again(self) -> None:
        """Forget what was written so far: nothing of it can be meant for what comes next."""
        for _ in range(_FULL_SOCKET):
            try:
                _, extras, _, _ = self._rescue.recvmsg(1 << 16, CREDENTIALS + ONE_DESCRIPTOR, NOW)
            except OSError:
                break  # empty
            for fd in unpack(extras)[1]:
                os.close(fd)
        self._patience = _PATIENCE
        if not self._listening:
            self._poll.register(self._rescue, select.POLLIN)
            self._listening = True

    # -------------------------------------------------------------------------------------- inside

    def _watching(self) -> bool:
        return self._busy and bool(self._directory)

    def _check_scratch(self) -> None:
        if self._too_full(self._active):
            self._busy = False  # said once a cell
            self._say(b"Q")

    def _too_full(self, process: int) -> bool:
        return scratch.used(self._directory, process, self._quota) >= self._quota

    def _watch(self, process: int) -> None:
        if self._pidfd >= 0:
            self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        try:
            self._pidfd = os.pidfd_open(process)
            self._poll.register(self._pidfd, select.POLLIN)
        except OSError:
            self._say(b"D" if self._active == self._stable else b"X")

    def _kill_all(self, keep: int) -> None:
        """Kill every process of the sandbox but one, until a look around finds none."""
        while True:
            found = [process for process in processes.descendants() if process != keep]
            if not found:
                return
            for process in found:
                processes.send(process, signal.SIGKILL)
            processes.bury()
            time.sleep(0.0002)
