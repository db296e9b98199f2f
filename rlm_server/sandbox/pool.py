"""The zygote of this server, and a few sandboxes that are started before they are needed."""

from __future__ import annotations

import atexit
import contextlib
import json
import socket
import subprocess
import threading
from collections import deque
from typing import Any

from rlm_server.errors import SandboxError
from rlm_server.sandbox.launch import ENVIRONMENT, command
from rlm_server.sandbox.worker import shut


class Seed:
    """A sandbox that has been asked for: the server's ends of its two sockets."""

    def __init__(self, data: socket.socket, guardian: socket.socket) -> None:
        self.data = data
        self.guardian = guardian

    @property
    def alive(self) -> bool:
        """Whether its guardian has not said or shown that it failed."""
        try:
            return not self._peek()
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _peek(self) -> bool:
        """Tell that there is something to read, be it the end; raises BlockingIOError."""
        self.guardian.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return True

    def close(self) -> None:
        """Give it up; its guardian sees to the rest."""
        shut(self.data, self.guardian)


class Zygote:
    """The process that sandboxes are forked from."""

    def __init__(self) -> None:
        """Start it; raises OSError."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                command("zygote", theirs.fileno()),
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is the server's business
                cwd="/",
            )

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def fork(self, request: dict[str, Any]) -> Seed:
        """Ask for a sandbox, without waiting for it; raises OSError where the zygote is gone."""
        data, their_data = socket.socketpair()
        guardian, their_guardian = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        seed = Seed(data, guardian)
        with their_data, their_guardian:
            fds = [their_data.fileno(), their_guardian.fileno()]
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], fds)
            except OSError:
                seed.close()
                raise
        return seed

    def close(self) -> None:
        """Let it end; its sandboxes end with their own sockets."""
        self._control.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Pool:
    """Sandboxes ready to take a context, all made to the request that was used last."""

    def __init__(self) -> None:
        self._zygote: Zygote | None = None
        self._ready: deque[Seed] = deque()
        self._key = ""
        self._lock = threading.Lock()

    def take(self, request: dict[str, Any], warm: int) -> Seed:
        """Return a sandbox, warm if there is one, and have replacements made; SandboxError."""
        with self._lock:
            self._match(request)
            seed = next((s for s in iter(self._pop, None) if _alive(s)), None) or self._new(request)
            self._fill(request, warm)
            return seed

    def fill(self, request: dict[str, Any], warm: int) -> None:
        """Have sandboxes made ahead; raises SandboxError where none can be."""
        with self._lock:
            self._match(request)
            self._fill(request, warm)

    def close(self) -> None:
        """Give up all that wait, and the zygote."""
        with self._lock:
            self._empty()
            if self._zygote is not None:
                self._zygote.close()
                self._zygote = None

    def _match(self, request: dict[str, Any]) -> None:
        if self._zygote is not None and not self._zygote.alive:
            self._empty()  # those it made may be ending with it
            self._zygote.close()
            self._zygote = None
        key = json.dumps(request)
        if key != self._key:
            self._empty()
            self._key = key

    def _pop(self) -> Seed | None:
        return self._ready.popleft() if self._ready else None

    def _empty(self) -> None:
        while self._ready:
            self._ready.popleft().close()

    def _fill(self, request: dict[str, Any], warm: int) -> None:
        while len(self._ready) < warm:
            self._ready.append(self._new(request))

    def _new(self, request: dict[str, Any]) -> Seed:
        try:
            if self._zygote is not None:
                with contextlib.suppress(OSError):
                    return self._zygote.fork(request)
                self._zygote.close()  # it has died, and with it what it had made ready
            self._zygote = Zygote()
            return self._zygote.fork(request)
        except OSError as error:
            self._zygote = None
            raise SandboxError(f"No sandbox can be started: {error}.") from error


def _alive(seed: Seed) -> bool:
    if seed.alive:
        return True
    seed.close()
    return False


pool = Pool()
"""One for the whole server."""

atexit.register(pool.close)
