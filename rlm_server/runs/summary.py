"""Summaries of runs, read from the first and last lines of their logs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rlm_server.protocol import RunStatus, RunSummary, Usage
from rlm_server.runs.lines import mark_of

_TAILS = (1 << 13, 1 << 17)
_GOES_ON = (b'{"kind":"runResumed"', b'{"kind":"followUp"', b'{"kind":"iterationStarted"')
_TOTALS = (b'{"kind":"runEnded"', b'{"kind":"progress"')

DAMAGED = "(The beginning of this run's log is damaged.)"
"""Stands for the question where that can't be read."""


class _Start(msgspec.Struct, rename="camel"):
    """What all versions have written of a run's beginning."""

    kind: str
    run_id: str
    time: float
    question: str
    root_model: str
    project: str | None = None
    parent_run_id: str | None = None
    iteration: int | None = None
    rerun_of: str | None = None


class _Total(msgspec.Struct, rename="camel"):
    """What all versions have written of a run's end, and of its totals on the way."""

    kind: str
    run_id: str
    usage: Usage
    seconds: float
    status: RunStatus | None = None
    iterations: int = 0
    subcalls: int = 0
    iteration: int = 0
    subcalls_started: int = 0


class _Texts(msgspec.Struct):
    sources: list[dict[str, object]] = []
    overlays: list[dict[str, object]] = []
    question_hash: str = msgspec.field(name="questionHash", default="")


_start = msgspec.json.Decoder(_Start)
_total = msgspec.json.Decoder(_Total)
_texts = msgspec.json.Decoder(_Texts)
_WRONG = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError)


def summarise(path: Path, *, live: bool = False) -> RunSummary | None:
    """Summarise one log; None where nothing in it is this run's. Reads its two ends only."""
    try:
        with path.open("rb") as file:
            first = file.readline()
            size = file.seek(0, 2)
            last, status = _last(_tail_lines(path, size), path.stem)
    except OSError:
        return None
    started = _started(first, path)
    if started is None:
        return None
    return RunSummary(
        run_id=path.stem,
        question=started.question,
        started=started.time,
        status="running" if live else status,
        root_model=started.root_model,
        project=started.project,
        iterations=(last.iterations or last.iteration) if last else 0,
        subcalls=(last.subcalls or last.subcalls_started) if last else 0,
        cost=last.usage.cost if last else 0.0,
        seconds=last.seconds if last else 0.0,
        log=str(path),
        bytes=size,
        parent_run_id=started.parent_run_id,
        forked_at=started.iteration,
        rerun_of=started.rerun_of,
    )


def kept_texts(path: Path) -> list[str]:
    """The hashes of the texts that came with a run's question."""
    try:
        with path.open("rb") as file:
            found = _texts.decode(file.readline())
    except (OSError, *_WRONG):
        return []
    hashes = (each.get("hash") for each in (*found.sources, *found.overlays))
    return [each for each in (found.question_hash, *hashes) if isinstance(each, str)]


def _any_event(path: Path) -> bool:
    lines = _tail_lines(path, path.stat().st_size)
    return any(mark_of(line, path.stem) for line in lines)


def _started(line: bytes, path: Path) -> _Start | None:
    try:
        started = _start.decode(line)
        if started.run_id == path.stem:
            return started
    except _WRONG:
        pass
    if not _any_event(path):
        return None
    return _Start("", path.stem, _time_of(path), DAMAGED, "unknown")


def _time_of(path: Path) -> float:
    """When a run began, by its name."""
    try:
        return time.mktime(time.strptime(path.stem[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return path.stat().st_mtime


def _last(lines: Iterator[bytes], run_id: str) -> tuple[_Total | None, RunStatus]:
    """The newest totals, and the state of a run that is not live."""
    status: RunStatus | None = None
    for line in lines:
        if status is None and line.startswith(_GOES_ON):
            status = "interrupted"
        if line.startswith(_TOTALS):
            try:
                total = _total.decode(line)
            except _WRONG:
                continue
            if total.run_id == run_id:
                return total, status or total.status or "interrupted"
    return None, "interrupted"


def _tail_lines(path: Path, size: int) -> Iterator[bytes]:
    """Whole lines at the end of a log, the last first; more of them the more are asked for."""
    seen = 0
    with path.open("rb") as file:
        for length in _TAILS:
            file.seek(max(0, size - length))
            lines = file.read(min(length, size)).split(b"\n")
            if length < size:
                del lines[0]  # it is cut
            yield from reversed(lines[: len(lines) - seen])
            seen = len(lines)
            if length >= size:
                return
