"""Summaries of runs, read from the first and last lines of their logs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlm_server.protocol import AnyEvent, Progress, RunEnded, RunStarted, RunStatus, RunSummary

_TAIL = 1 << 17

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def log_path(directory: Path, run_id: str) -> Path:
    """Where a run's log is; the id must be one that a log can have."""
    return directory / f"{run_id}.jsonl"


def summarise(path: Path, *, live: bool) -> RunSummary | None:
    """Summarise one log; None where it has no readable beginning. Reads its two ends only."""
    try:
        with path.open("rb") as file:
            started = _decode(file.readline())
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            tail = file.read().split(b"\n")
    except OSError:
        return None
    if not isinstance(started, RunStarted):
        return None
    last = next((event for line in reversed(tail) if (event := _total(line))), None)
    status: RunStatus = "running" if live else "interrupted"
    iterations = subcalls = 0
    if isinstance(last, RunEnded):
        status, iterations, subcalls = last.status, last.iterations, last.subcalls
    elif last is not None:
        iterations, subcalls = last.iteration, last.subcalls_started
    return RunSummary(
        run_id=started.run_id,
        question=started.question,
        started=started.time,
        status=status,
        root_model=started.root_model,
        project=started.project,
        iterations=iterations,
        subcalls=subcalls,
        cost=last.usage.cost if last else 0.0,
        seconds=last.seconds if last else 0.0,
        log=str(path),
    )


def newest(directory: Path, limit: int) -> list[Path]:
    """The newest logs, newest first; run ids begin with the time, so names sort by it."""
    return sorted(directory.glob("*.jsonl"), reverse=True)[:limit]


def last_seq(path: Path) -> int:
    """Number of the last whole event of a log, -1 where there is none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        lines = file.read().split(b"\n")
    return next((event.seq for line in reversed(lines) if (event := _decode(line))), -1)


def _total(line: bytes) -> Progress | RunEnded | None:
    event = _decode(line)
    return event if isinstance(event, Progress | RunEnded) else None


def _decode(line: bytes) -> AnyEvent | None:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None
