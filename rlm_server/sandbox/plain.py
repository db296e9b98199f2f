"""The namespace's process where there is no zygote: on macOS, inside Seatbelt, or uncontained.

No fork keeps the namespace here, so a killed cell takes it along. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time

from . import confine, fixed, serving, system

_PROFILE = """
(version 1)
(deny default)
(deny network*)
(deny process-fork)
(deny process-exec*)
(deny mach-lookup)
(allow signal (target self))
(allow sysctl-read)
(allow process-info* (target self))
(allow file-read-metadata)
(allow file-read* (subpath (param "LIBRARY")) (literal "/dev/null") (literal "/dev/urandom"))
(allow file-read* (subpath (param "PACKAGES")))
(allow file-read* file-write* (subpath (param "SCRATCH")) (literal "/dev/null"))
(deny file-map-executable (subpath (param "SCRATCH")))
"""
"""Seatbelt's rules; the last that matches counts."""


def main(fd: int, parent: int, text: str, directory: str) -> None:
    """Shut everything else out as far as ``text``, a request in JSON, says; then serve."""
    request = json.loads(text)
    packages = request["packages"]
    if os.getuid() == 0:
        packages = confine.keep_within_reach([confine.library(), packages]).get(packages, packages)
        confine.drop_root()
    _die_with(parent)
    confine.keep_only(fd)
    confine.settle(directory, packages)
    confine.limit(request, threads=0)
    if request["mode"] == "seatbelt":
        _enter_seatbelt(directory, packages)
    fixed.install()
    serving.serve(socket.socket(fileno=fd), None)


def _die_with(parent: int) -> None:
    """End this process when its parent ends, even if that is killed."""
    if sys.platform == "linux":
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        return

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()


def _enter_seatbelt(directory: str, packages: str) -> None:
    """Apply the profile to this process; raises OSError."""
    library = ctypes.CDLL("/usr/lib/libsandbox.1.dylib")
    values = {
        "LIBRARY": os.path.realpath(sys.base_prefix),
        "PACKAGES": os.path.realpath(packages or directory),
        "SCRATCH": os.path.realpath(directory),
    }
    flat = [part.encode() for pair in values.items() for part in pair]
    parameters = (ctypes.c_char_p * (len(flat) + 1))(*flat, None)
    problem = ctypes.c_char_p()
    done = library.sandbox_init_with_parameters(
        _PROFILE.encode(), ctypes.c_uint64(0), parameters, ctypes.byref(problem)
    )
    if done != 0:
        raise OSError(f"Seatbelt: {(problem.value or b'unknown').decode(errors='replace')}")
