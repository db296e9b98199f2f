"""Logs for tests of what reads them: written event by event, then damaged as a test likes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlm_server.protocol import (
    Event,
    Limits,
    Notice,
    Progress,
    RunEnded,
    RunForked,
    RunStarted,
    Usage,
)
from rlm_server.text import to_json

RUN = "20260301-120000-c0ffee"
FORK = "20260302-120000-00f04c"


def notice(seq: int, text: str = "x", run_id: str = RUN) -> Notice:
    return Notice(run_id=run_id, seq=seq, time=0.0, node="0", level="info", text=text)


def started(run_id: str = RUN, **more: Any) -> RunStarted:
    fields: dict[str, Any] = {
        "question": "q?", "root_model": "m", "sub_model": "m", "limits": Limits(), "max_depth": 1,
        "server_version": "0", "isolation": "base", "isolation_limits": [], "project": "p",
        "time": 5.0,
    }  # fmt: skip
    return RunStarted(run_id=run_id, seq=0, node="0", **{**fields, **more})


def forked(seq: int, parent: str = RUN, run_id: str = FORK) -> RunForked:
    return RunForked(
        run_id=run_id, seq=seq, time=9.0, node="0", parent_run_id=parent, parent_seq=seq - 1,
        iteration=2, question="q?", root_model="m", sub_model="m", limits=Limits(), max_depth=1,
        server_version="0", isolation="base", project="p",
    )  # fmt: skip


def progress(seq: int, run_id: str = RUN, **more: Any) -> Progress:
    fields: dict[str, Any] = {
        "iteration": 2, "subcalls_started": 4, "subcalls_done": 3, "usage": Usage(cost=0.5),
        "seconds": 1.5,
    }  # fmt: skip
    return Progress(run_id=run_id, seq=seq, time=0, node="0", **{**fields, **more})


def ended(seq: int, run_id: str = RUN, status: str = "done") -> RunEnded:
    return RunEnded(
        run_id=run_id, seq=seq, time=0, node="0", status=status, reason="", error=None,
        usage=Usage(cost=0.5), iterations=3, subcalls=4, seconds=2.5,
    )  # fmt: skip


def write(directory: Path, events: list[Event]) -> Path:
    """Write a log with these events, named by the run of the last one."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{events[-1].run_id}.jsonl"
    path.write_bytes(b"".join(to_json(event) + b"\n" for event in events))
    return path


def write_runs(directory: Path, count: int) -> None:
    """Write the logs of so many short runs of different cost, one each minute, in six projects."""
    for number in range(count):
        run_id = f"20260301-{number:06d}-{number:06x}"
        begun = started(
            run_id,
            question=f"What do we know of harbour {number}, and which boats leave it at dawn?",
            project=f"project {number % 6}", root_model="provider/model",
            time=1_700_000_000.0 + 60 * number,
        )  # fmt: skip
        end = ended(1, run_id, ("done", "done", "done", "limit")[number % 4])
        end.usage = Usage(cost=number * 7919 % 10_007 / 1000)
        write(directory, [begun, end])
