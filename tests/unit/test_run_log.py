"""The run log: whole lines only, followed at the reader's pace, readable after any crash."""

import asyncio
import errno
import fcntl
import itertools
import os
import threading
from pathlib import Path

import msgspec
import pytest

from log_support import FORK, RUN, ended, forked, notice, progress, started, write
from rlm_server.engine.emitter import Emitter
from rlm_server.errors import LogError
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    AnyEvent,
    ApprovalWanted,
    Notice,
    Output,
    RunResumed,
)
from rlm_server.runs.chain import numbers
from rlm_server.runs.log import (
    AHEAD,
    FLOOD_SECONDS,
    GATHER_SECONDS,
    PACE_SECONDS,
    RunLog,
    follow,
    in_use,
    remove,
)
from rlm_server.runs.summary import summarise
from virtual_time import run


async def read(path: Path, log: RunLog | None = None, from_seq: int = 0) -> list[AnyEvent]:
    return [msgspec.json.decode(line, type=AnyEvent) async for line in follow(path, log, from_seq)]


@pytest.fixture
def log(tmp_path: Path):
    log = RunLog(tmp_path / f"{RUN}.jsonl")
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


@pytest.mark.parametrize(
    ("between", "pace"), [(0.05, PACE_SECONDS), (0.01, FLOOD_SECONDS)], ids=["stream", "flood"]
)
def test_a_follower_is_told_at_once_what_is_short_and_seldom_of_a_stream(
    tmp_path: Path, between: float, pace: float
) -> None:
    times: list[float] = []

    async def watch(log: RunLog) -> None:
        async for _ in follow(log.path, log, 0):
            now = asyncio.get_running_loop().time()
            if now not in times:
                times.append(now)

    async def work() -> None:
        log = RunLog(tmp_path / f"{RUN}.jsonl")
        log.append(notice(0))
        watcher = asyncio.create_task(watch(log))
        while not times:
            await asyncio.sleep(0.01)
        for seq in range(1, 1001):
            log.append(notice(seq))
            await asyncio.sleep(between)
        log.close()
        await watcher

    run(work())
    gaps = [after - before for before, after in itertools.pairwise(times[1:])]
    assert max(gaps[: AHEAD - 2]) < PACE_SECONDS
    stream = gaps[2 * AHEAD : -1]
    assert len(stream) > 20
    assert stream == pytest.approx([pace] * len(stream))


def test_a_follower_is_told_in_a_flood_at_once_that_approval_is_wanted(tmp_path: Path) -> None:
    told: dict[int, float] = {}
    added = 0.0

    async def watch(log: RunLog) -> None:
        async for line in follow(log.path, log, 0):
            seq = msgspec.json.decode(line, type=AnyEvent).seq
            told[seq] = asyncio.get_running_loop().time()

    async def work() -> None:
        nonlocal added
        log = RunLog(tmp_path / f"{RUN}.jsonl")
        watcher = asyncio.create_task(watch(log))
        for seq in range(500):
            log.append(notice(seq))
            await asyncio.sleep(0.01)
        while 499 not in told:  # the next telling is far away then
            await asyncio.sleep(0.01)
        log.append(notice(500))
        await asyncio.sleep(0.01)
        assert 500 not in told
        added = asyncio.get_running_loop().time()
        log.append(ApprovalWanted(RUN, 501, 0.0, "0.1", cell=1, code="1"))
        await asyncio.sleep(1)
        log.close()
        await watcher

    run(work())
    assert told[501] == pytest.approx(added + GATHER_SECONDS)


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
    assert numbers(log.path).last == 0


async def test_a_damaged_line_in_the_middle_costs_that_line_only(log: RunLog) -> None:
    for seq in range(3):
        log.append(notice(seq))
    lines = log.path.read_bytes().split(b"\n")
    lines[1] = b"\xff{garbage"
    log.path.write_bytes(b"\n".join(lines))
    events = await read(log.path)
    assert [event.seq for event in events] == [0, 1, 2]
    assert events[1].text == "This log is damaged: one event is lost here."


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
    emitter = Emitter(RUN, log, on_failure=failures.append)
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
    emitter = Emitter(RUN, log, on_failure=pytest.fail)
    for _ in range(3):
        emitter.stream(Output, "0.1", "ab", cell=1, stream="stdout")
    emitter.stream(Output, "0.1", "E", cell=1, stream="stderr")
    emitter.stream(Output, "0.1", "x" * (MAX_EVENT_TEXT + 1), cell=1, stream="stdout")
    emitter.emit(Notice, level="info", text="after")
    events = await read(log.path)
    assert [e.text[:6] for e in events] == ["ababab", "E", "xxxxxx", "x", "after"]
    assert [e.seq for e in events] == list(range(5))


async def test_streamed_text_is_written_without_waiting_for_more(log: RunLog) -> None:
    emitter = Emitter(RUN, log, on_failure=pytest.fail)
    emitter.stream(Output, "0.1", "alone", cell=1, stream="stdout")
    await asyncio.wait_for(log.grown(0), 60)
    assert [event.text for event in await read(log.path)] == ["alone"]


def test_a_summary_tells_how_a_run_ended(log: RunLog) -> None:
    log.append(started())
    log.append(progress(1))
    interrupted = summarise(log.path)
    assert interrupted is not None
    assert (interrupted.status, interrupted.iterations, interrupted.subcalls) == (
        "interrupted", 2, 4,
    )  # fmt: skip
    assert summarise(log.path, live=True).status == "running"
    log.append(ended(2))
    done = summarise(log.path)
    assert (done.status, done.iterations, done.cost, done.project) == ("done", 3, 0.5, "p")


def test_a_run_that_was_resumed_and_killed_again_is_interrupted(log: RunLog) -> None:
    for event in (started(), ended(1, status="limit"), resumed(2, [(1, 1)])):
        log.append(event)
    assert summarise(log.path).status == "interrupted"


def test_what_is_no_log_has_no_summary(tmp_path: Path) -> None:
    path = tmp_path / f"{RUN}.jsonl"
    path.write_bytes(b"\x00\xff\n{}")
    assert summarise(path) is None


def test_a_log_without_its_beginning_is_still_listed(tmp_path: Path) -> None:
    path = write(tmp_path, [started(), notice(1), ended(2)])
    path.write_bytes(b"\xff" + path.read_bytes())
    summary = summarise(path)
    assert (summary.status, summary.question) == (
        "done",
        "(The beginning of this run's log is damaged.)",
    )


def resumed(seq: int, void: list[tuple[int, int]]) -> RunResumed:
    return RunResumed(
        run_id=RUN, seq=seq, time=0, node="0", iteration=1, void=void, root_model="m",
        sub_model="m", limits=started().limits,
    )  # fmt: skip


async def test_opened_again_a_torn_line_is_cut_off_and_numbers_go_on(tmp_path: Path) -> None:
    path = write(tmp_path, [started(), notice(1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"notice","runId":"2026' + b"x" * 600_000)
    log = RunLog(path, again=True)
    assert path.read_bytes() == whole
    log.append(notice(numbers(path).free, "more"))
    log.close()
    assert [event.seq for event in await read(path)] == [0, 1, 2]


async def test_a_log_has_one_writer(log: RunLog) -> None:
    log.append(started())
    with pytest.raises(LogError, match="by another server"):
        RunLog(log.path, again=True)
    log.close()
    RunLog(log.path, again=True).close()


async def test_what_a_resumed_run_has_made_anew_is_void(tmp_path: Path) -> None:
    path = write(tmp_path, [started(), notice(1), ended(2), resumed(3, [(2, 2)]), notice(4)])
    assert [type(event).__name__ for event in await read(path)] == [
        "RunStarted", "Notice", "Void", "RunResumed", "Notice",
    ]  # fmt: skip


async def test_a_fork_shows_what_it_shares_under_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, [started(), notice(1, "shared"), notice(2, "not shared")])
    path = write(tmp_path, [forked(2), notice(3, "own", FORK)])
    events = await read(path)
    assert {event.run_id for event in events} == {FORK}
    assert [event.seq for event in events] == [0, 1, 2, 3]
    assert [event.text for event in events if isinstance(event, Notice)] == ["shared", "own"]
    assert [event.seq for event in await read(path, from_seq=2)] == [2, 3]


async def test_a_fork_of_a_fork_and_one_whose_parent_is_gone(tmp_path: Path) -> None:
    third = "20260303-120000-00f04c"
    parent = write(tmp_path, [started(), notice(1, "first"), notice(2, "no")])
    write(tmp_path, [forked(2), notice(3, "second", FORK), notice(4, "no", FORK)])
    path = write(tmp_path, [forked(4, FORK, third), notice(5, "third", third)])
    texts = [e.text for e in await read(path) if isinstance(e, Notice)]
    assert texts == ["first", "second", "third"]
    parent.unlink()
    events = await read(path)
    assert [e.seq for e in events] == list(range(6))
    assert "2 events are lost" in events[0].text


def test_who_only_looks_whether_a_log_is_in_use_is_in_nobodys_way(log: RunLog) -> None:
    log.append(notice(0))
    log.close()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            in_use(log.path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(300):
            again = RunLog(log.path, again=True)
            again.release()
            again.claim()
            again.close()
    finally:
        over.set()
        looking.join()


def test_a_log_that_is_written_is_not_removed(log: RunLog) -> None:
    log.append(notice(0))
    with pytest.raises(LogError, match="being written"):
        remove(log.path)
    log.close()
    assert remove(log.path) == log.size
    with pytest.raises(LogError, match="No such file"):
        remove(log.path)


def test_a_log_that_is_removed_while_it_is_opened_is_not_gone_on_with(
    log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(notice(0))
    log.close()
    lock = fcntl.flock

    def removed_before(descriptor: int, how: int) -> None:
        log.path.unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with pytest.raises(LogError, match="was removed"):
        RunLog(log.path, again=True)
