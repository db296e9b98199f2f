"""Starts sandboxes' processes: the interpreter, the bare environment, what is asked of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rlm_server.config import SandboxConfig

ROOM = Path(__file__).parent

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",  # each further arena takes 64 MB of address space
    "PYTHONHASHSEED": "0",  # a set has the same order each time its cell runs
}


def command(module: str, *arguments: object) -> list[str]:
    """Return the command line that calls ``main`` of a module of this directory.

    A package of another name is made of the directory, so that relative imports work without
    importing rlm_server, whose dependencies and import path have no business in there.
    """
    program = (
        "import sys, types\n"
        "package = types.ModuleType('rlm_sandbox')\n"
        f"package.__path__ = [{str(ROOM)!r}]\n"
        "sys.modules['rlm_sandbox'] = package\n"
        "import rlm_sandbox.at_fork\n"
        f"from rlm_sandbox.{module} import main\n"
        f"main(*{arguments!r})\n"
    )
    # As with -I, but for the environment, which is the one above and nothing else.
    return [interpreter(), "-P", "-s", "-S", "-X", "utf8", "-c", program]


def interpreter() -> str:
    """Return the interpreter itself, not a virtual environment's link to it."""
    base: str | None = getattr(sys, "_base_executable", None)
    return base if base and Path(base).exists() else sys.executable


def request(config: SandboxConfig, mode: str, packages: Path | None) -> dict[str, Any]:
    """Return what a new sandbox has to know of the configuration."""
    return {
        "mode": mode,
        "memory": config.memory,
        "scratch_bytes": config.scratch,
        "cpu_seconds": config.cpu_seconds,
        "threads": config.threads,
        "packages": str(packages) if packages else "",
        "user": os.getuid(),
        **overrides,
    }


overrides: dict[str, Any] = {}
"""For tests: ``landlock`` is a version to act as, ``gate`` False means that nobody may listen."""
