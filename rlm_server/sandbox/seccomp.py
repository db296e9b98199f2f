"""The system-call filter: what sandboxed code may ask of the kernel at all.

Two filters are stacked, and the stricter verdict counts. The *gate* asks the guardian about every
fork, so that only the checkpoint's own gets through. The *policy* is an allow-list; what it does
not know does not exist.

Landlock judges files by path; the policy does the rest: no sockets but anonymous pairs, no
signals to anybody, no tracing, no programs, no namespaces, no memory that the limits don't count,
and none of the ways to change a file that old Landlock versions overlook.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import struct
from collections.abc import Iterable

from . import system
from .syscalls import ALLOWED, BY_ARGUMENT, FAKED, FORBIDDEN

_SECCOMP = (317, 277)
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3

# Instructions of the classic BPF machine.
_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_IF_EQUAL, _IF_GREATER_EQUAL, _IF_ANY_BIT = 0x15, 0x35, 0x45

_ALLOW, _ASK, _KILL, _FAIL = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
_NOT_PERMITTED = _FAIL | errno.EPERM
_NOT_KNOWN = _FAIL | errno.ENOSYS
_NO_TERMINAL = _FAIL | errno.ENOTTY

_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16
_ARCHITECTURE = (0xC000003E, 0xC00000B7)
_X32_BIT = 0x40000000

_CLONE_THREAD = 0x00010000
_CLONE_NEW_ANYTHING = 0x7E020080

_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
"""Duplicates, flags, locks, F_GETPIPE_SZ. Not F_SETOWN and F_SETSIG: they signal any process of
the same user. Not F_SETPIPE_SZ: pipes are memory that no limit counts."""
_PRCTLS = (15, 16)
"""The thread's name."""

Instruction = tuple[int, int, int, int]


def _do(code: int, value: int) -> Instruction:
    return (code, 0, 0, value)


def _test(code: int, value: int, yes: int, no: int) -> Instruction:
    return (code, yes, no, value)


def _argument(index: int, half: int = 0) -> Instruction:
    """Load the low (0) or high (1) half of an argument; both machines are little-endian."""
    return _do(_LOAD, _AT_ARGUMENTS + 8 * index + 4 * half)


def _only(index: int, values: Iterable[int], otherwise: int) -> list[Instruction]:
    """Allow the call where this argument is one of the values."""
    listed = list(values)
    checks = [_test(_IF_EQUAL, value, len(listed) - place, 0) for place, value in enumerate(listed)]
    return [_argument(index), *checks, _do(_RETURN, otherwise), _do(_RETURN, _ALLOW)]


def _unless(index: int, mask: int, values: Iterable[int]) -> list[Instruction]:
    """Allow the call except where this argument under the mask is one of the values."""
    body = [_argument(index), _do(_AND, mask)]
    for value in values:
        body += [_test(_IF_EQUAL, value, 0, 1), _do(_RETURN, _NOT_PERMITTED)]
    return [*body, _do(_RETURN, _ALLOW)]


def _null(index: int) -> list[Instruction]:
    """Allow the call only where this pointer is null."""
    refuse = _do(_RETURN, _NOT_PERMITTED)
    return [
        _argument(index),
        _test(_IF_EQUAL, 0, 1, 0),
        refuse,
        _argument(index, 1),
        _test(_IF_EQUAL, 0, 1, 0),
        refuse,
        _do(_RETURN, _ALLOW),
    ]


def _clone(forks: bool) -> list[Instruction]:
    fork = _ALLOW if forks else _NOT_PERMITTED
    return [
        _argument(0),
        _test(_IF_ANY_BIT, _CLONE_NEW_ANYTHING, 0, 1),
        _do(_RETURN, _NOT_PERMITTED),
        _test(_IF_ANY_BIT, _CLONE_THREAD, 0, 1),
        _do(_RETURN, _ALLOW),
        _do(_RETURN, fork),
    ]


def _rules(forks: bool) -> dict[str, list[Instruction]]:
    # Read-only with O_TRUNC, and the mode 3 that means neither reading nor writing, empty a file
    # that Landlock before version 3 lets nobody write.
    opening = ((0x203, (0x200,)), (0x3, (0x3,)))
    unix_stream = [
        _argument(0),
        _test(_IF_EQUAL, 1, 1, 0),
        _do(_RETURN, _NOT_PERMITTED),
        *_only(1, [1, 1 | 0o4000, 1 | 0o2000000, 1 | 0o2004000], _NOT_PERMITTED),
    ]

    def open_rule(index: int) -> list[Instruction]:
        body: list[Instruction] = []
        for mask, values in opening:
            body = body[:-1] + _unless(index, mask, values)
        return body

    return {
        "clone": _clone(forks),
        "clone3": [_do(_RETURN, _NOT_KNOWN)],  # its flags are in memory; libc falls back to clone
        "socketpair": unix_stream,  # a datagram pair could send to any socket's path
        "sendto": _null(4),
        "ioctl": _only(1, _IOCTLS, _NO_TERMINAL),
        "fcntl": _only(1, _FCNTLS, _NOT_PERMITTED),
        "prctl": _only(0, _PRCTLS, _NOT_PERMITTED),
        "prlimit64": _null(2),
        "open": open_rule(1),
        "openat": open_rule(2),
        "mmap": _unless(3, 0x21, (0x21,)),  # shared and anonymous: not counted by RLIMIT_DATA
    }


def policy(*, forks: bool) -> list[Instruction]:
    """Return the allow-list; with ``forks`` they are left to the gate, else forbidden."""
    program = [
        _do(_LOAD, _AT_ARCHITECTURE),
        _test(_IF_EQUAL, _ARCHITECTURE[system.COLUMN], 1, 0),
        _do(_RETURN, _KILL),
        _do(_LOAD, _AT_NUMBER),
    ]
    if system.COLUMN == 0:
        program += [_test(_IF_GREATER_EQUAL, _X32_BIT, 0, 1), _do(_RETURN, _NOT_KNOWN)]
    for name, body in _rules(forks).items():
        number = BY_ARGUMENT[name][system.COLUMN]
        if number is not None:
            program += [_test(_IF_EQUAL, number, 0, len(body)), *body]
    for table, verdict in ((ALLOWED, _ALLOW), (FAKED, _FAIL), (FORBIDDEN, _NOT_PERMITTED)):
        program += _group(table, verdict)
    return [*program, _do(_RETURN, _NOT_KNOWN)]


def _group(table: dict[str, tuple[int | None, int | None]], verdict: int) -> list[Instruction]:
    numbers = sorted(n for pair in table.values() if (n := pair[system.COLUMN]) is not None)
    program: list[Instruction] = []
    for start in range(0, len(numbers), 200):  # a jump reaches 255 instructions
        part = numbers[start : start + 200]
        for place, number in enumerate(part):
            program.append(_test(_IF_EQUAL, number, len(part) - place, 0))
        program += [_do(_JUMP, 1), _do(_RETURN, verdict)]
    return program


def _gate() -> list[Instruction]:
    number = BY_ARGUMENT["clone"][system.COLUMN]
    assert number is not None
    return [
        _do(_LOAD, _AT_NUMBER),
        _test(_IF_EQUAL, number, 1, 0),
        _do(_RETURN, _ALLOW),
        _argument(0),
        _test(_IF_ANY_BIT, _CLONE_THREAD, 0, 1),
        _do(_RETURN, _ALLOW),
        _do(_RETURN, _ASK),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def _install(program: list[Instruction], flags: int) -> int:
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    whole = _Program(len(program), ctypes.addressof(buffer))
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    return system.syscall("seccomp", _SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(whole))


def install_gate() -> int:
    """Have every fork of this process and its children asked about.

    Returns the descriptor that the questions come from. Raises OSError where that is impossible,
    for instance because an outer sandbox listens already.
    """
    return _install(_gate(), _NEW_LISTENER)


def install_policy(*, forks: bool) -> None:
    """Restrict this process and all that it starts; raises OSError."""
    _install(policy(forks=forks), 0)


# ----------------------------------------------------------------------------- the guardian's side

_RECEIVE, _ANSWER, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_GO_ON = 1
_SYNC_WAKE_UP = 1


def wake_in_turn(listener: int) -> None:
    """Tell the kernel that who asks sleeps until it is answered, which lets it wake us sooner."""
    with contextlib.suppress(OSError):  # before Linux 6.6
        fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)


def question(listener: int) -> tuple[int, int]:
    """Return a waiting question's id, and the process that asks; raises OSError."""
    buffer = bytearray(80)
    fcntl.ioctl(listener, _RECEIVE, buffer)
    number, process, _ = struct.unpack_from("<QII", buffer)
    return number, process


def answer(listener: int, number: int, *, allow: bool) -> None:
    """Let the fork happen, or fail with EPERM; raises OSError where nobody waits any more.

    Going on is safe here: what was judged are flags in a register, not memory that the asking
    process could change meanwhile.
    """
    error, flags = (0, _GO_ON) if allow else (-errno.EPERM, 0)
    fcntl.ioctl(listener, _ANSWER, bytearray(struct.pack("<QqiI", number, 0, error, flags)))
