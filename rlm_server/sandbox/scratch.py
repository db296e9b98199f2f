"""Watches how much a sandbox has written, where the kernel has no limit for a directory.

Runs in the guardian: standard library only. What it looks at is hostile, so it counts no further
than it must, follows nothing, and gives up by saying "too much".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

MAX_ENTRIES = 20_000
MAX_DEPTH = 40
_BLOCK = 512


def used(directory: str, process: int, enough: int) -> int:
    """Return the bytes that a process keeps below a directory, deleted but open files included.

    Stops counting at ``enough``; too many or too deep files count as ``enough``.
    """
    total = _below(directory, enough)
    return total if total >= enough else total + _deleted(directory, process)


def _below(directory: str, enough: int) -> int:
    total = entries = 0
    pending = [(directory, 0)]
    while pending:
        path, depth = pending.pop()
        try:
            found = list(_entries(path))
        except OSError:
            continue
        entries += len(found)
        if entries > MAX_ENTRIES or depth > MAX_DEPTH:
            return enough
        for name, info in found:
            total += info.st_blocks * _BLOCK
            if stat.S_ISDIR(info.st_mode):
                pending.append((f"{path}/{name}", depth + 1))
        if total >= enough:
            return enough
    return total


def _entries(path: str) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                found.append((entry.name, entry.stat(follow_symlinks=False)))
            except OSError:
                continue
            if len(found) > MAX_ENTRIES:
                break
    return found


def _deleted(directory: str, process: int) -> int:
    """Return the bytes of files that have no name any more but are still open or mapped."""
    sizes: dict[int, int] = {}
    try:
        for fd in os.listdir(f"/proc/{process}/fd"):
            try:
                info = os.stat(f"/proc/{process}/fd/{fd}")
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode) and info.st_nlink == 0:
                sizes[info.st_ino] = info.st_blocks * _BLOCK
        with open(f"/proc/{process}/maps", errors="replace") as maps:
            for line in maps:
                fields = line.split(None, 5)
                if len(fields) == 6 and fields[5].startswith(directory + "/"):
                    begin, end = (int(part, 16) for part in fields[0].split("-"))
                    if fields[5].rstrip().endswith("(deleted)"):
                        inode = int(fields[4])
                        sizes[inode] = max(sizes.get(inode, 0), end - begin)
    except OSError:
        return sum(sizes.values())
    return sum(sizes.values())


def empty(directory: str) -> None:
    """Remove everything in a directory, however deep.

    Each directory's own directories are moved up before it is removed, because a path can be too
    long to be named, and a tree too deep to be walked by recursion.
    """
    moved = 0
    while True:
        try:
            with os.scandir(directory) as entries:
                found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            return
        before = len(found), moved
        for path, is_directory in found:
            if is_directory:
                moved = _flatten(path, directory, moved)
            else:
                _quietly(os.unlink, path)
        if not found or (before[1] == moved and not _shrunk(directory, before[0])):
            return


def _flatten(path: str, top: str, moved: int) -> int:
    try:
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            inside = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return moved
    for below, is_directory in inside:
        if is_directory:
            moved += 1
            _quietly(os.chmod, below, 0o700)  # moving a directory changes it
            _quietly(os.rename, below, f"{top}/.moved-{moved}")
        else:
            _quietly(os.unlink, below)
    _quietly(os.rmdir, path)
    return moved


def _shrunk(directory: str, before: int) -> bool:
    return len(os.listdir(directory)) < before


def _quietly(act: Callable[..., None], *arguments: object) -> None:
    try:
        act(*arguments)
    except OSError:
        return  # what can't be removed stays
