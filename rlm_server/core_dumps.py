"""Keeps what a process knows, such as keys, out of core dumps."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4


def keep_out_of_core_dumps() -> None:
    """See that this process's memory, which has the keys, is written to no core dump.

    Nor can other processes of the same user read it, on Linux. Programs that it starts are
    readable again, but inherit the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        # The limit alone doesn't bind a kernel that pipes dumps into a program.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
