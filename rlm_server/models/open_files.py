"""Leave to hold as many connections open as calls may be in flight."""

from __future__ import annotations

import contextlib
import resource

WANTED = 4096
"""Descriptors: many servers' slots, and what runs have open besides."""


def allow_many() -> None:
    """Raise this process's soft limit, 256 on some systems, as far as it may be raised by itself.

    Sandboxes have a limit of their own; programs that the server starts inherit this one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
