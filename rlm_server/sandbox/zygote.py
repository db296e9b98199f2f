"""The zygote: a clean interpreter that waits, and forks into a new sandbox when asked.

It was started without environment and holds no secret; it never runs code of a model, and none of
its children can reach it. What it has imported, sandboxes need not import again.

Runs outside the restrictions: standard library only. The server's requests are packets of JSON
with two descriptors: the sandbox's end of the data socket, and the guardian's of its own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
from typing import Any

from . import confine, fixed, mapped_text, namespaces, serving, system
from .guardian import Guardian

_PRELOAD = (
    "re",
    "collections",
    "math",
    "datetime",
    "itertools",
    "functools",
    "random",
    "string",
    "statistics",
    "textwrap",
    "heapq",
    "csv",
    "io",
    "traceback",
    "threading",
    "ast",
    "linecache",
    "concurrent.futures.thread",
    "difflib",
    "bisect",
    "operator",
    "dataclasses",
    "typing",
    "enum",
    "decimal",
    "fractions",
    "copy",
    "unicodedata",
    "base64",
    "zlib",
    "urllib.parse",
    "pathlib",
    "fnmatch",
    "shutil",
    "tempfile",
    "contextlib",
    "array",
    "struct",
    "warnings",
    "locale",
    "json",
    "tokenize",
    "keyword",
    "glob",
    "types",
    "abc",
    "weakref",
    "time",
    "numbers",
    "encodings.utf_16",
    "encodings.utf_32",
    "encodings.latin_1",
    "encodings.cp1252",
    "ctypes",
)


def main(fd: int) -> None:
    """Serve the server's requests until its socket closes."""
    control = socket.socket(fileno=fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries children
    confine.hide()
    fixed.install()
    preload()
    mapped_text.supported()  # tried here once, known in every sandbox
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, what all sandboxes share
    while True:
        request, fds, _, _ = socket.recv_fds(control, 1 << 16, 4, socket.MSG_CMSG_CLOEXEC)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            _become_sandbox(json.loads(request), *fds)
        for received in fds:
            os.close(received)


def preload() -> None:
    """Import what sandboxes need, or are likely to."""
    for name in _PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # some builds lack one or the other


def _become_sandbox(request: dict[str, Any], data_fd: int, server_fd: int) -> None:
    """Turn this process into a guardian, or into the one outside of its process table."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, server = socket.socket(fileno=data_fd), socket.socket(fileno=server_fd)
    try:
        os.setsid()
        _sandbox(request, data, server)
    except BaseException as error:
        _tell(server, error)
    os._exit(1)


def _sandbox(request: dict[str, Any], data: socket.socket, server: socket.socket) -> None:
    packages = request["packages"]
    mode = request["mode"]
    if mode == "full":
        inside = namespaces.enter(
            confine.visible(packages), scratch_bytes=request["scratch_bytes"], user=confine.NOBODY
        )
        if not inside:
            _stay_outside(data, server)
    elif os.getuid() == 0:
        moved = confine.keep_within_reach([confine.library(), packages])
        packages = moved.get(packages, packages)
    if os.getuid() == 0:
        confine.drop_root()
    confine.hide()
    if mode == "full":
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)  # dropping root cleared it
        directory, watched = namespaces.SCRATCH, ""
    else:
        directory = watched = tempfile.mkdtemp(prefix="rlm-scratch-")

    def start(rescue: socket.socket) -> None:
        try:
            _start_namespace(request, directory, packages, data, rescue)
        except BaseException as error:
            serving.say_fatal(data, f"{type(error).__name__}: {error}")

    guardian = Guardian(server, watched, request["scratch_bytes"])
    guardian.run(start, data)


def _start_namespace(
    request: dict[str, Any],
    directory: str,
    packages: str,
    data: socket.socket,
    rescue: socket.socket,
) -> None:
    """Shut this process in, then hold the namespace."""
    confined = request["mode"] in ("full", "base")
    confine.keep_only(data.fileno(), rescue.fileno())
    confine.settle(directory, packages)
    own_user = request["mode"] == "full" and request["user"] != 0
    confine.limit(request, threads=request["threads"] if own_user else 0)
    # The guardian has to see which deleted files are still open. Others of the same user could
    # look too, but in here nobody can look at others.
    system.prctl(system.PR_SET_DUMPABLE, 1)
    checkpoints = True
    if confined:
        checkpoints = confine.restrict(request, directory, packages, rescue)
    else:
        confine.limit_processor_time(request["cpu_seconds"])
    serving.serve(data, rescue if checkpoints else None)


def _stay_outside(data: socket.socket, server: socket.socket) -> None:
    """Exist only so that the end of the zygote is the end of the process table inside."""
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
    data.close()
    server.close()
    try:
        os.wait()
    finally:
        os._exit(0)


def _tell(server: socket.socket, error: BaseException) -> None:
    text = f"F{type(error).__name__}: {error}"
    try:
        server.send(text.encode("utf-8", "replace")[:1000], socket.MSG_DONTWAIT)
    except OSError:
        os._exit(1)


if sys.platform != "linux":  # what it needs exists nowhere else
    raise ImportError("the zygote is for Linux")
