"""Calls into the kernel that Python has no function for, by ctypes.

Runs beside the sandboxed code, before it: standard library only. Linux on x86-64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import platform

MACHINE = platform.machine()
COLUMN = 1 if MACHINE in ("aarch64", "arm64") else 0
"""Which number of a pair (x86-64, aarch64) is this machine's."""

KNOWN_MACHINE = MACHINE in ("x86_64", "aarch64", "arm64")

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, pair: tuple[int, int], *arguments: object) -> int:
    """Make a system call; integers are passed as longs, ctypes objects and bytes as they are."""
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(pair[COLUMN]), *passed), name)


def prctl(option: int, value: int) -> int:
    """Change a property of this process; raises OSError."""
    none = ctypes.c_ulong(0)
    return _checked(
        _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), none, none, none), "prctl"
    )


def mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    """Mount something; raises OSError."""
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    options = None if data is None else data.encode()
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), options)
    _checked(result, f"mount {target}")


def unmount_lazily(target: str) -> None:
    """Unmount when nobody uses it any more; raises OSError."""
    _checked(_libc.umount2(os.fsencode(target), 2), f"unmount {target}")


def drop_capabilities() -> None:
    """Give up every capability that this process has."""
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, "little") + bytes(4), 8)
    nothing = ctypes.create_string_buffer(24)
    syscall("capset", (126, 91), header, nothing)
