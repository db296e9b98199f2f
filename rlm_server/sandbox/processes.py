"""Finds, signals and buries the processes of a sandbox, for the guardian: stdlib only."""

from __future__ import annotations

import os


def send(process: int, number: int) -> None:
    """Send a signal to a process that may have ended already."""
    try:
        os.kill(process, number)
    except OSError:
        return  # it has ended already


def bury() -> None:
    """Take notice of the children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def descendants() -> list[int]:
    """List the living processes that descend from this one.

    Orphans become its children, so none gets lost; being first of a process table, everybody is.
    """
    me = os.getpid()
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rsplit(b")", 1)[1].split()
            except OSError:
                continue
            parents[int(name)] = (int(fields[1]), fields[0])
    found = []
    for process, (parent, state) in parents.items():
        above = parent
        while above not in (0, me) and above in parents:
            above = parents[above][0]
        if (above == me or me == 1) and process != me and state not in (b"Z", b"X"):
            found.append(process)
    return found


def go_first() -> None:
    """Be the first to go when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return  # not vital


def give_way() -> None:
    """Let the server, and whoever is at the screen, have the processor first."""
    try:
        os.nice(5)
    except OSError:
        return  # not vital
