"""Lets a cell that began early wait, before it changes files, until it is sure to be run.

All else that a cell does ends with its process, if it has to be undone; files would remain.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ACTS = """os.chmod os.chown os.link os.mkdir os.mkfifo os.mknod os.putenv os.remove os.removexattr
    os.rename os.rmdir os.setxattr os.symlink os.truncate os.utime ctypes.dlopen sqlite3.connect"""
_CHANGING = frozenset(_ACTS.split())
_DESCRIPTORS = 128


class Waiting:
    """Watches the cells of one process."""

    def __init__(self, wait: Callable[[], None]) -> None:
        """``wait`` returns once the cell is sure to be run."""
        self._wait = wait
        self._watching = False
        self._installed = False

    def begin(self) -> None:
        """A cell begins early."""
        if not self._installed:  # it can't be taken away again, so it is not there for nothing
            sys.addaudithook(self._hear)
            self._installed = True
        self._watching = True
        if _writes_already():
            self._hold()

    def end(self) -> None:
        """It has ended, and whatever comes next is sure."""
        self._watching = False

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event in _CHANGING or (event == "open" and args[2] & _WRITING):
            self._hold()

    def _hold(self) -> None:
        self._wait()
        self._watching = False


def _writes_already() -> bool:
    """Whether an earlier cell has left a file open that can be written without being heard."""
    for fd in range(3, _DESCRIPTORS):
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                continue
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                return True
        except OSError:
            continue
    return False
