"""Landlock: which files a process may touch. Files only; everything else is the seccomp filter's.

Landlock came with Linux 5.13 and learnt more in each version; what older versions can't forbid
(truncation, above all) is forbidden by the filter, so the oldest is good enough.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from . import system

_CREATE, _ADD, _RESTRICT = (444, 444), (445, 445), (446, 446)
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCKET, _MAKE_FIFO, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE

READ = READ_FILE | READ_DIR
_NEVER = EXECUTE | _MAKE_CHAR | _MAKE_SOCKET | _MAKE_FIFO | _MAKE_BLOCK | _IOCTL_DEVICE

_NET_FROM, _SCOPES_FROM = 4, 6  # versions
_NET_ALL, _SCOPE_ALL = 3, 3  # TCP bind and connect; abstract sockets and signals


def version() -> int:
    """Return the version that this kernel offers; 0 where it has none."""
    try:
        return system.syscall("landlock", _CREATE, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(
    read: Iterable[str], write: Iterable[str], lists: Iterable[str] = (), *, assume: int = 0
) -> None:
    """Leave this process, and all that it starts, with these files only; raises OSError.

    ``read`` may be read, with all that is below; ``write`` may also be written; of ``lists`` only
    names can be seen. What does not exist is passed over. ``assume`` is a version to act as, for
    tests.
    """
    number = min(version(), assume) if assume else version()
    if number < 1:
        raise OSError("this kernel has no Landlock, or it is switched off")
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(number, 16)) - 1
    ruleset = _create(number, rights)
    try:
        for path in read:
            _allow(ruleset, path, READ & rights)
        for path in write:
            _allow(ruleset, path, rights & ~_NEVER)
        for path in lists:
            _allow(ruleset, path, READ_DIR)
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
        system.syscall("landlock_restrict_self", _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _create(number: int, rights: int) -> int:
    net = _NET_ALL if number >= _NET_FROM else 0
    scopes = _SCOPE_ALL if number >= _SCOPES_FROM else 0
    size = 8 if number < _NET_FROM else 16 if number < _SCOPES_FROM else 24
    attributes = ctypes.create_string_buffer(struct.pack("<QQQ", rights, net, scopes))
    return system.syscall("landlock_create_ruleset", _CREATE, attributes, size, 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FOR_FILES
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, fd))
        system.syscall("landlock_add_rule", _ADD, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
