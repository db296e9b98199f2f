"""``rlm-server export``: a run in a form that others read; needs no running server."""

from __future__ import annotations

import sys
from pathlib import Path

from rlm_server.config import state_dir
from rlm_server.errors import UnknownRunError
from rlm_server.protocol import ExportFormat
from rlm_server.runs.export import export, export_to
from rlm_server.runs.place import log_path, newest_first
from rlm_server.runs.summary import summarise


def export_command(run: str, form: ExportFormat, output: Path | None) -> int:
    """Print a run, or write it to a file; the exit status is 0. Raises UnknownRunError."""
    log = find_log(run)
    if output is not None:
        size = export_to(log, form, output)
        print(f"{output}: {size:,} bytes", file=sys.stderr)
        return 0
    for piece in export(log, form):
        sys.stdout.write(piece)
    return 0


def find_log(run: str) -> Path:
    """The log of a run: by its id, the beginning of one, ``last``, or as a file.

    Raises UnknownRunError.
    """
    directory = state_dir() / "runs"
    if run == "last":  # a server that was killed may have left a log without a run
        for log in newest_first(directory):
            if summarise(log) is not None:
                return log
    if run.endswith(".jsonl") and Path(run).is_file():
        return Path(run)
    if "/" not in run and log_path(directory, run).is_file():
        return log_path(directory, run)
    fitting = [path for path in directory.glob("*.jsonl") if run and path.name.startswith(run)]
    if len(fitting) == 1:
        return fitting[0]
    raise UnknownRunError(
        f"There {'are several runs' if fitting else 'is no run'} {run[:60]!r}.",
        cure="Give the run's whole id, the name of its log, or `last`.",
    )
