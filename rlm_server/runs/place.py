"""Where the logs of runs are, and what a run may be called."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


def new_run_id() -> str:
    """A name for a run; it begins with the time, so that names sort by it."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)


def log_path(directory: Path, run_id: str) -> Path:
    """Where a run's log is; the id must be one that a log can have."""
    return directory / f"{run_id}.jsonl"


def logs(directory: Path) -> Iterable[Path]:
    """All logs, in no order."""
    return (path for path in directory.glob("*.jsonl") if RUN_ID.fullmatch(path.stem))


def newest_first(directory: Path) -> list[Path]:
    """All logs; run ids begin with the time, so names sort by it."""
    return sorted(logs(directory), reverse=True)
