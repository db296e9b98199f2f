"""Namespaces: a root directory, process table, network and user list of its own.

Needs an unprivileged user namespace, or root; many systems give neither, so everything that
matters is enforced without them too.
"""

from __future__ import annotations

import ctypes
import os
import struct

from . import system

_UNSHARE, _PIVOT_ROOT, _MOUNT_SETATTR = (272, 97), (155, 41), (442, 442)

_NEW_MOUNTS, _NEW_CGROUPS, _NEW_HOST, _NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_NEW_USERS, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_EVERYTHING = _NEW_MOUNTS | _NEW_CGROUPS | _NEW_HOST | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK

_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18

_INSIDE_USER = 1000
_DEVICES = ("null", "urandom")
"""Not /dev/zero: shared mappings of it are memory that no limit counts."""

SCRATCH = "/scratch"


def enter(read: list[str], *, scratch_bytes: int, user: int) -> bool:
    """Enter new namespaces: True in their first process, False in the one that stays outside.

    ``read`` are the paths that stay visible, read-only, at their places. As root no user
    namespace is made; the caller drops to ``user`` afterwards. Raises OSError.
    """
    as_root = os.geteuid() == 0
    _leave(as_root)
    if os.fork():
        return False
    # The process outside exists only to die with the server, and this one dies with it.
    system.prctl(system.PR_SET_PDEATHSIG, 9)
    _new_root(read, scratch_bytes, user if as_root else os.geteuid())
    if not as_root:
        system.drop_capabilities()
    return True


def _leave(as_root: bool) -> None:
    uid, gid = os.geteuid(), os.getegid()
    if as_root:
        system.syscall("unshare", _UNSHARE, _EVERYTHING)
        return
    # A process that hides its memory can't write its own user map.
    system.prctl(system.PR_SET_DUMPABLE, 1)
    system.syscall("unshare", _UNSHARE, _EVERYTHING | _NEW_USERS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INSIDE_USER} {uid} 1"),
        ("gid_map", f"{_INSIDE_USER} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _new_root(read: list[str], scratch_bytes: int, user: int) -> None:
    root = _mount_point(read)
    system.mount("none", "/", None, _RECURSIVE | _PRIVATE)
    system.mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "size=4m,mode=0755")
    for path in read:
        _show(path, root)
    inside = user if os.geteuid() == 0 else os.geteuid()
    os.mkdir(root + SCRATCH)
    owner = f",uid={inside},gid={inside}" if os.geteuid() == 0 else ""
    options = f"size={max(scratch_bytes, 4096)},mode=0700,nr_inodes=20000{owner}"
    flags = _NO_SUID | _NO_DEVICES | _NO_EXEC
    system.mount("tmpfs", root + SCRATCH, "tmpfs", flags, options)
    os.mkdir(root + "/dev")
    for name in _DEVICES:
        target = f"{root}/dev/{name}"
        with open(target, "w"):
            pass
        system.mount(f"/dev/{name}", target, None, _BIND)
    os.mkdir(root + "/proc")
    system.mount("proc", root + "/proc", "proc", flags | _READ_ONLY)
    flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES
    system.mount(None, root, None, flags)
    os.chdir(root)
    here = ctypes.c_char_p(b".")
    system.syscall("pivot_root", _PIVOT_ROOT, here, here)
    system.unmount_lazily(".")
    os.chdir("/")


def _mount_point(read: list[str]) -> str:
    """Choose a directory to build on; what is below it can't be seen any more from then on."""
    for path in ("/mnt", "/media", "/srv", "/opt", "/tmp", "/var"):  # noqa: S108 - mounted over
        hidden = any(source == path or source.startswith(path + "/") for source in read)
        if os.path.isdir(path) and not os.path.islink(path) and not hidden:
            return path
    raise OSError("no directory to build a root on")


def _show(path: str, root: str) -> None:
    """Make a path visible at its place below the new root, read-only."""
    if os.path.islink(path):  # such as /lib on systems with a merged /usr
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(os.readlink(path), root + path)
        return
    if os.path.isdir(path):
        os.makedirs(root + path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        with open(root + path, "a"):
            pass
    system.mount(path, root + path, None, _BIND | _RECURSIVE)
    attributes = struct.pack("<QQQQ", _READ_ONLY | _NO_SUID | _NO_DEVICES, 0, 0, 0)
    fd = os.open(root + path, os.O_PATH)
    try:
        empty_path_recursive = 0x1000 | 0x8000
        system.syscall(
            "mount_setattr",
            _MOUNT_SETATTR,
            fd,
            ctypes.c_char_p(b""),
            empty_path_recursive,
            ctypes.create_string_buffer(attributes, 32),
            32,
        )
    finally:
        os.close(fd)
