"""The index over all runs: as true as the logs, made anew from them, quick for ten thousand."""

import contextlib
import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from log_support import FORK, RUN, ended, forked, notice, started, write
from rlm_server.cli import main
from rlm_server.errors import LogError
from rlm_server.protocol import KeptText, RunsParams, Usage
from rlm_server.runs import index as index_module
from rlm_server.runs.index import Index
from rlm_server.runs.log import RunLog
from rlm_server.runs.retention import Retention
from rlm_server.runs.texts import Texts


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLM_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def index(state: Path) -> Index:
    return Index(state / "runs", state / "runs.db")


def name(number: int) -> str:
    return f"20260301-12{number // 60:02}{number % 60:02}-{number:06x}"


def fill(state: Path, count: int) -> None:
    for number in range(count):
        events = [
            started(
                name(number), question=f"Where is Ärger {number}?", project=f"p{number % 2}",
                time=1000.0 + number,
            ),
            ended(1, name(number), "done" if number % 3 else "limit"),
        ]  # fmt: skip
        write(state / "runs", events)


def test_runs_are_found_by_project_status_and_words(state: Path, index: Index) -> None:
    fill(state, 12)
    every = index.find(RunsParams(), ())
    assert [run.run_id for run in every.runs] == [name(n) for n in reversed(range(12))]
    assert index.find(RunsParams(project="p1"), ()).total == 6
    assert index.find(RunsParams(status="limit"), ()).total == 4
    words = index.find(RunsParams(text="ärger 11"), ())
    assert [run.run_id for run in words.runs] == [name(11)]
    assert index.find(RunsParams(text="100% _"), ()).total == 0
    page = index.find(RunsParams(limit=2, offset=3), ())
    assert ([run.run_id for run in page.runs], page.total) == ([name(8), name(7)], 12)


def test_forks_of_a_run_are_found_with_the_iteration_that_they_begin_at(
    state: Path, index: Index
) -> None:
    fill(state, 2)
    write(state / "runs", [started(), notice(1)])
    write(state / "runs", [forked(2), ended(3, FORK)])
    found = index.find(RunsParams(fork_of=RUN), ())
    assert [(run.run_id, run.parent_run_id, run.forked_at) for run in found.runs] == [
        (FORK, RUN, 2)
    ]
    assert index.forks(RUN) == [FORK]
    assert index.find(RunsParams(fork_of=FORK), ()).total == 0
    assert index.find(RunsParams(text=RUN), ()).runs[0].forked_at is None


def test_runs_are_sorted_over_all_pages(state: Path, index: Index) -> None:
    costs = [0.5, None, 0.25, 4.0, 0.5]
    for number, cost in enumerate(costs):
        end = ended(1, name(number))
        end.usage = Usage(cost=cost)
        write(state / "runs", [started(name(number), time=1000.0 + number), end])

    def order(**wanted: Any) -> list[int]:
        pages = [index.find(RunsParams(limit=2, offset=n, **wanted), ()) for n in (0, 2, 4)]
        return [int(run.run_id[9:15]) - 120_000 for page in pages for run in page.runs]

    assert order() == [4, 3, 2, 1, 0]
    assert order(ascending=True) == [0, 1, 2, 3, 4]
    assert order(sort="cost", ascending=True) == [2, 4, 0, 3, 1]
    assert order(sort="cost") == [1, 3, 4, 0, 2]
    assert order(sort="rootModel") == [4, 3, 2, 1, 0]


def test_live_runs_are_running_whatever_their_log_says(state: Path, index: Index) -> None:
    write(state / "runs", [started(), notice(1)])
    assert index.find(RunsParams(status="interrupted"), ()).total == 1
    assert index.find(RunsParams(status="interrupted"), (RUN,)).total == 0
    assert index.find(RunsParams(status="running"), (RUN,)).runs[0].status == "running"
    log = RunLog(state / "runs" / f"{RUN}.jsonl", again=True)  # as another server has it
    assert index.find(RunsParams(), ()).runs[0].status == "running"
    log.close()


def test_only_logs_that_have_changed_are_read_again(
    state: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(state, 5)
    index.refresh()
    read: list[str] = []
    summarise = index_module.summarise
    monkeypatch.setattr(
        index_module, "summarise", lambda path: (read.append(path.stem), summarise(path))[1]
    )
    write(state / "runs", [started(name(2)), notice(1, "longer than before", name(2))])
    (state / "runs" / f"{name(3)}.jsonl").unlink()
    assert index.find(RunsParams(), ()).total == 4
    assert index.find(RunsParams(status="interrupted"), ()).total == 1
    assert read == [name(2)]


@pytest.mark.parametrize("damage", ["remove", "garbage", "flip", "row"])
def test_a_damaged_index_is_made_anew(state: Path, index: Index, damage: str) -> None:
    fill(state, 300)
    index.refresh()
    if damage == "remove":
        index.file.unlink()
    elif damage == "garbage":
        index.file.write_bytes(b"garbage" * 1000)
    elif damage == "row":
        data = index.file.read_bytes()
        index.file.write_bytes(data.replace(b'"status":"done"', b'"status":1234567'))
    else:
        data = bytearray(index.file.read_bytes())
        for at in range(4096, len(data), 97):
            data[at] ^= 255
        index.file.write_bytes(bytes(data))
    found = index.find(RunsParams(limit=1000), ())
    assert [run.run_id for run in found.runs] == [name(n) for n in reversed(range(300))]


def test_damage_that_hides_or_renames_a_run_is_found_at_the_start(
    state: Path, index: Index
) -> None:
    fill(state, 30)
    index.refresh()
    sound = index.file.read_bytes()
    places = [found.end() - 1 for found in re.finditer(name(29).encode(), sound)]
    assert len(places) > 3  # the row, what is searched and shown of it, and both ways to it
    for place in places:
        damaged = bytearray(sound)
        damaged[place] ^= 1
        index.file.write_bytes(bytes(damaged))
        index.refresh()
        found = index.find(RunsParams(limit=1000), ())
        assert [run.run_id for run in found.runs] == [name(n) for n in reversed(range(30))]


def test_an_index_that_another_process_uses_is_left_alone(
    state: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(state, 3)
    index.find(RunsParams(), ())
    kept = index.file.stat().st_ino
    monkeypatch.setattr(index_module, "LOCK_SECONDS", 0.0)
    with contextlib.closing(sqlite3.connect(index.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert index.find(RunsParams(), ()).total == 3
    assert index.file.stat().st_ino == kept


def test_without_a_place_for_the_index_there_is_a_list_all_the_same(state: Path) -> None:
    fill(state, 3)
    (state / "file").write_text("")
    assert Index(state / "runs", state / "file" / "runs.db").find(RunsParams(), ()).total == 3


def test_old_and_large_runs_are_removed_only_on_request(
    state: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = Texts(state / "texts")
    (state / "texts").mkdir()
    for text in ("ab", "cd"):
        (state / "texts" / (text * 32)).write_text("kept")
        os.utime(state / "texts" / (text * 32), (0, 0))
    old, new = "20200101-120000-00000a", "20200101-120000-00000b"
    mine = {"time": 0.0, "sources": [KeptText(hash="ab" * 32)]}
    write(state / "runs", [started(old, **mine), ended(1, old)])
    other = {"time": time.time(), "sources": [KeptText(hash="cd" * 32)]}
    write(state / "runs", [started(new, **other), ended(1, new)])
    write(state / "runs", [started(), notice(1), ended(2)])  # of 1970, and a new fork's beginning
    write(state / "runs", [forked(2)])
    fork = state / "runs" / f"{FORK}.jsonl"
    fork.write_text(fork.read_text().replace('"time":9.0', f'"time":{time.time()}'))

    assert main(["runs", "prune", "--older-than", "90d"]) == 0
    told = capsys.readouterr().out
    assert old in told
    assert new not in told
    assert f"{RUN}  stays: a fork of it does" in told
    assert "1 run, " in told
    assert "Nothing was removed" in told
    assert index.find(RunsParams(), ()).total == 4

    assert main(["runs", "prune", "--older-than", "90d", "--larger-than", "1M", "--yes"]) == 0
    assert index.find(RunsParams(), ()).total == 4
    assert main(["runs", "prune", "--older-than", "90d", "--yes"]) == 0
    assert {run.run_id for run in index.find(RunsParams(), ()).runs} == {new, RUN, FORK}
    assert [path.name for path in texts.directory.iterdir()] == ["cd" * 32]

    retention = Retention(index, texts)
    with pytest.raises(LogError, match="is the beginning of"):
        retention.remove(state / "runs" / f"{RUN}.jsonl")
    log = RunLog(fork, again=True)
    with pytest.raises(LogError, match="is going on"):
        retention.remove(fork)
    log.close()
    assert retention.remove(fork) > 0
    assert retention.remove(state / "runs" / f"{RUN}.jsonl") > 0


def test_runs_are_listed_on_the_command_line(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(state, 3)
    assert main(["runs", "list", "ärger", "--project", "p0"]) == 0
    told = capsys.readouterr().out
    assert "Where is Ärger 2?" in told
    assert told.endswith("2 of 2 runs.\n")
    assert main(["runs", "prune"]) == 2
    with pytest.raises(SystemExit):
        main(["runs", "prune", "--older-than", "soon"])
