"""What sandboxed code is left with: files, memory, descriptors, environment, system calls.

Runs in the process that is to be confined, before any code of a model: standard library only.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import tempfile
import threading
from typing import Any

from . import landlock, seccomp, system

NOBODY = 65534
"""The user that root's sandboxes run as."""

_DESCRIPTORS = 128
_THREAD_STACK = 1 << 20
_ADDRESS_SPACE = 64 << 30
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_NULL, _RANDOM = "/dev/null", "/dev/urandom"


_library = os.path.dirname(os.path.realpath(os.__file__))
_held: list[int] = []


def library() -> str:
    """Return the directory of the standard library, by a name that this process can use."""
    return _library


def visible(packages: str) -> list[str]:
    """Return what a new root directory has to show: libraries, and the prepared packages."""
    wanted = [*_SYSTEM, library(), *_shared_libraries()]
    if packages:
        wanted.append(packages)
    paths = [path for path in dict.fromkeys(wanted) if os.path.exists(path)]
    return [p for p in paths if not any(p.startswith(other + "/") for other in paths)]


def _shared_libraries() -> list[str]:
    directory = os.path.dirname(library())
    if directory.startswith("/usr/lib"):
        return []
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if ".so" in entry.name and entry.is_file()]
    except OSError:  # out of reach; what the interpreter needs of them it has loaded
        return []


def _readable(packages: str) -> list[str]:
    """List what may be read; of the library all but the packages that the server installed."""
    home = library()
    paths = [*_SYSTEM, *_shared_libraries(), _RANDOM]
    with os.scandir(home) as entries:
        paths += [e.path for e in entries if e.name not in ("site-packages", "dist-packages")]
    if packages:
        paths.append(packages)
    return paths


def keep_within_reach(paths: list[str]) -> dict[str, str]:
    """Hold directories open that a dropped user could not reach; return their new names.

    Root's interpreter may stand below a directory that is root's alone. The permissions of the
    directories above don't stop a path that goes through an open directory.
    """
    global _library
    moved = {}
    for path in paths:
        if path and not _open_to_all(path):
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            _held.append(fd)
            moved[path] = f"/proc/self/fd/{fd}"
    for old, new in moved.items():
        sys.path[:] = [_renamed(path, old, new) for path in sys.path]
        _library = _renamed(_library, old, new)
        for module in list(sys.modules.values()):
            inside = getattr(module, "__path__", None)
            if isinstance(inside, list):
                inside[:] = [_renamed(path, old, new) for path in inside]
    return moved


def _renamed(path: str, old: str, new: str) -> str:
    if path.startswith("/proc/"):
        return path
    real = os.path.realpath(path)
    return new + real[len(old) :] if (real + "/").startswith(old + "/") else path


def _open_to_all(path: str) -> bool:
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True


def drop_root() -> None:
    """Become nobody for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def keep_only(*kept: int) -> None:
    """Close every descriptor but these and the held ones; the standard ones lead nowhere."""
    null = os.open(_NULL, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    begin = 3
    for fd in sorted((*kept, *_held)):
        os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, 1 << 16)


def limit(request: dict[str, Any], *, threads: int) -> None:
    """Set the limits that the kernel keeps; ``threads`` 0 for none."""
    threading.stack_size(_THREAD_STACK)
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_DATA, request["memory"]),
        (resource.RLIMIT_AS, request["memory"] + _ADDRESS_SPACE),
        (resource.RLIMIT_FSIZE, request["scratch_bytes"]),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_NPROC, threads),
    ):
        if value or which in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
            _limit(which, value, value)


def limit_processor_time(seconds: int) -> None:
    """Limit the processor time of each process to come; with checkpoints, that is each cell."""
    _limit(resource.RLIMIT_CPU, seconds, seconds + 5)


def _limit(which: int, soft: int, hard: int) -> None:
    _, allowed = resource.getrlimit(which)
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.setrlimit(which, (soft, hard))


def settle(scratch: str, packages: str) -> None:
    """Give the process its directory, a bare environment, and the prepared packages."""
    os.chdir(scratch)
    tempfile.tempdir = scratch
    os.environ.clear()
    os.environ.update(
        LANG="C.UTF-8",
        HOME=scratch,
        TMPDIR=scratch,
        OPENBLAS_NUM_THREADS="1",  # threads don't cross the fork that keeps the namespace
        OMP_NUM_THREADS="1",
    )
    if packages:
        sys.path.append(packages)


def restrict(request: dict[str, Any], scratch: str, packages: str, rescue: socket.socket) -> bool:
    """Shut the doors; returns whether checkpoints are possible. Raises OSError."""
    landlock.restrict(
        read=_readable(packages),
        write=[scratch, _NULL],
        lists=[library()],
        assume=request.get("landlock", 0),
    )
    gate = -1
    if request.get("gate", True):
        try:
            gate = seccomp.install_gate()
        except OSError:
            gate = -1  # somebody outside listens already: no fork for anyone, so no checkpoints
    if gate >= 0:
        socket.send_fds(rescue, [b"L"], [gate])
        os.close(gate)
        limit_processor_time(request["cpu_seconds"])
    seccomp.install_policy(forks=gate >= 0)
    return gate >= 0


def hide() -> None:
    """Let nobody but root look into this process's memory."""
    system.prctl(system.PR_SET_DUMPABLE, 0)
