"""The run log: whole lines only, followed at the reader's pace, readable after any crash."""

import asyncio
import errno
import os
from pathlib import Path

import msgspec
import pytest

from rlm_server.engine.emitter import Emitter
from rlm_server.errors import LogError
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    AnyEvent,
    Limits,
    Notice,
    Output,
    Progress,
    RunEnded,
    RunStarted,
    Usage,
)
from rlm_server.runs.log import RunLog, follow
from rlm_server.runs.summary import last_seq, newest, summarise


def notice(seq: int, text: str = "x") -> Notice:
    return Notice(run_id="r", seq=seq, time=0.0, node="0", level="info", text=text)


async def read(path: Path, log: RunLog | None = None, from_seq: int = 0) -> list[AnyEvent]:
    return [msgspec.json.decode(line, type=AnyEvent) async for line in follow(path, log, from_seq)]


@pytest.fixture
def log(tmp_path: Path):
    log = RunLog(tmp_path / "run.jsonl")
    yield log
    log.close()


async def test_what_was_appended_is_read_back(log: RunLog) -> None:
    for seq in range(3):
        log.append(notice(seq))
    assert [event.seq for event in await read(log.path)] == [0, 1, 2]
    assert [event.seq for event in await read(log.path, from_seq=2)] == [2]


async def test_a_follower_gets_events_as_they_come_and_ends_with_the_log(log: RunLog) -> None:
    log.append(notice(0))
    seen: list[int] = []
    got = asyncio.Event()

    async def watch() -> None:
        async for line in follow(log.path, log, 0):
            seen.append(msgspec.json.decode(line, type=AnyEvent).seq)
            got.set()

    watcher = asyncio.create_task(watch())
    await got.wait()
    assert seen == [0]
    got.clear()
    log.append(notice(1))
    await got.wait()
    log.close()
    await watcher
    assert seen == [0, 1]


async def test_text_no_json_parser_takes_is_replaced(log: RunLog) -> None:
    log.append(notice(0, "lone \ud800 and \0 and \\u0000"))
    [event] = await read(log.path)
    assert event.text == "lone \ufffd and \u2400 and \\u0000"


async def test_a_torn_last_line_is_passed_over(log: RunLog) -> None:
    log.append(notice(0))
    log.append(notice(1))
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-9])
    assert [event.seq for event in await read(log.path)] == [0]
    assert last_seq(log.path) == 0


async def test_a_damaged_line_in_the_middle_costs_that_line_only(log: RunLog) -> None:
    for seq in range(3):
        log.append(notice(seq))
    lines = log.path.read_bytes().split(b"\n")
    lines[1] = b"\xff{garbage"
    log.path.write_bytes(b"\n".join(lines))
    assert [event.seq for event in await read(log.path)] == [0, 2]


def test_an_existing_log_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("precious")
    with pytest.raises(LogError, match="can't be written"):
        RunLog(path)
    assert path.read_text() == "precious"


async def test_a_full_disk_keeps_whole_lines_and_is_told_once(
    log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[LogError] = []
    emitter = Emitter("r", log, on_failure=failures.append)
    emitter.emit(Notice, level="info", text="kept")
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    emitter.emit(Notice, level="info", text="lost")
    emitter.emit(Notice, level="info", text="lost too")
    monkeypatch.undo()
    assert [event.text for event in await read(log.path)] == ["kept"]
    assert len(failures) == 1
    assert "Free some disk space" in str(failures[0])


async def test_streamed_text_is_joined_cut_and_kept_in_order(log: RunLog) -> None:
    emitter = Emitter("r", log, on_failure=pytest.fail)
    for _ in range(3):
        emitter.stream(Output, "0.1", "ab", cell=1, stream="stdout")
    emitter.stream(Output, "0.1", "E", cell=1, stream="stderr")
    emitter.stream(Output, "0.1", "x" * (MAX_EVENT_TEXT + 1), cell=1, stream="stdout")
    emitter.emit(Notice, level="info", text="after")
    events = await read(log.path)
    assert [e.text[:6] for e in events] == ["ababab", "E", "xxxxxx", "x", "after"]
    assert [e.seq for e in events] == list(range(5))


async def test_streamed_text_is_written_without_waiting_for_more(log: RunLog) -> None:
    emitter = Emitter("r", log, on_failure=pytest.fail)
    emitter.stream(Output, "0.1", "alone", cell=1, stream="stdout")
    await asyncio.wait_for(log.grown(0), 10)
    assert [event.text for event in await read(log.path)] == ["alone"]


def started() -> RunStarted:
    return RunStarted(
        run_id="r", seq=0, time=5.0, node="0", question="q?", root_model="m", sub_model="m",
        limits=Limits(), max_depth=1, server_version="0", isolation="base", isolation_limits=[],
        project="p",
    )  # fmt: skip


def test_a_summary_tells_how_a_run_ended(log: RunLog) -> None:
    log.append(started())
    usage = Usage(cost=0.5)
    log.append(
        Progress(run_id="r", seq=1, time=0, node="0", iteration=2, subcalls_started=4,
                 subcalls_done=3, usage=usage, seconds=1.5)
    )  # fmt: skip
    interrupted = summarise(log.path, live=False)
    assert interrupted is not None
    assert (interrupted.status, interrupted.iterations, interrupted.subcalls) == (
        "interrupted", 2, 4,
    )  # fmt: skip
    assert summarise(log.path, live=True).status == "running"
    log.append(
        RunEnded(run_id="r", seq=2, time=0, node="0", status="done", reason="", error=None,
                 usage=usage, iterations=3, subcalls=4, seconds=2.5)
    )  # fmt: skip
    ended = summarise(log.path, live=False)
    assert (ended.status, ended.iterations, ended.cost, ended.project) == ("done", 3, 0.5, "p")


def test_what_is_no_log_has_no_summary(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\x00\xff\n{}")
    assert summarise(tmp_path / "a.jsonl", live=False) is None
    assert newest(tmp_path, 5) == [tmp_path / "a.jsonl"]
