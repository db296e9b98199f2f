"""Damaged logs: never a crash, never another run's data, and a word on what was lost."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from log_support import FORK, RUN, ended, forked, notice, progress, started, write
from rlm_server.protocol import RunsParams
from rlm_server.runs.chain import numbers
from rlm_server.runs.index import Index
from rlm_server.runs.log import RunLog, follow
from rlm_server.runs.summary import summarise
from rlm_server.text import to_json

EVENTS = [started(), *(notice(seq, f"event {seq}") for seq in range(1, 9)), progress(9), ended(10)]
WHOLE = [to_json(event) for event in EVENTS]
OTHER = [to_json(notice(seq, "a stranger's secret", FORK)) for seq in range(11)]
NEWER = [
    b'{"kind":"fromTheFuture","runId":"%s","seq":%d,"time":0.0,"node":"0","x":[{}]}'
    % (RUN.encode(), seq)
    for seq in range(11)
]

lines = st.integers(0, 10)
damages = st.one_of(
    st.tuples(st.just("truncate"), st.integers(0, 5000)),
    st.tuples(st.just("flip"), st.integers(0, 40_000)),
    st.tuples(st.just("drop"), lines),
    st.tuples(st.just("double"), lines),
    st.tuples(st.just("stranger"), lines),
    st.tuples(st.just("newer"), lines),
    st.tuples(st.just("swap"), st.integers(0, 9)),
    st.tuples(st.just("zeros"), lines),
)


def damaged(data: bytes, damage: tuple[str, int]) -> bytes:
    kind, place = damage
    if kind == "truncate":
        return data[: len(data) - place]
    if kind == "flip":
        at, bit = divmod(place, 8)
        flipped = bytearray(data)
        if at < len(flipped):
            flipped[at] ^= 1 << bit
        return bytes(flipped)
    parts = data.split(b"\n")
    place = min(place, len(parts) - 1)
    if kind == "drop":
        del parts[place]
    elif kind == "double":
        parts.insert(place, parts[place])
    elif kind == "stranger":
        parts.insert(place, OTHER[place % 11])
    elif kind == "newer":
        parts[place] = NEWER[place % 11]
    elif kind == "swap" and place + 1 < len(parts):
        parts[place], parts[place + 1] = parts[place + 1], parts[place]
    elif kind == "zeros":
        parts[place] = b"\0" * len(parts[place])
    return b"\n".join(parts)


async def shown(path: Path) -> list[bytes]:
    return [line async for line in follow(path, None, 0)]


@example([("drop", 9), ("swap", 8)])
@settings(max_examples=300, deadline=None)
@given(st.lists(damages, min_size=1, max_size=4))
def test_whatever_happens_to_a_log_it_opens(done: list[tuple[str, int]]) -> None:
    data = b"".join(line + b"\n" for line in WHOLE)
    for damage in done:
        data = damaged(data, damage)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / f"{RUN}.jsonl"
        path.write_bytes(data)
        seen = asyncio.run(shown(path))
        assert not any(b"stranger" in line for line in seen)
        marks = [msgspec.json.decode(line) for line in seen]
        assert {mark["runId"] for mark in marks} <= {RUN}
        numbers_seen = [mark["seq"] for mark in marks]
        assert numbers_seen == list(range(len(numbers_seen)))
        whole = {line for line in data.split(b"\n")[:-1] if line in WHOLE}
        told = [mark for mark in marks if "og is damaged" in str(mark.get("text"))]
        taken = {m["seq"] for m in marks if m not in told and m["kind"] != "void"}
        if {msgspec.json.decode(line)["seq"] for line in whole} - taken:
            assert told  # it had lost its place in the order
        gone = {mark["seq"] for mark in marks if mark["kind"] == "void"}
        if gone:
            assert any("lost here" in mark.get("text", "") for mark in marks)
        summary = summarise(path)
        assert summary is None or summary.run_id == RUN
        found = Index(directory, directory / "runs.db").find(RunsParams(), ())
        assert found.total == (summary is not None)
        assert numbers(path).last == len(numbers_seen) - 1
        log = RunLog(path, again=True)
        log.append(notice(numbers(path).free, "afterwards"))
        log.close()
        assert b"afterwards" in b"".join(asyncio.run(shown(path))[-2:])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40_000))
def test_a_flipped_bit_costs_one_event_at_most_two(place: int) -> None:
    data = damaged(b"".join(line + b"\n" for line in WHOLE), ("flip", place))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"{RUN}.jsonl"
        path.write_bytes(data)
        assert len(set(WHOLE) - set(asyncio.run(shown(path)))) <= 2


@settings(max_examples=60, deadline=None)
@given(st.lists(damages, min_size=1, max_size=3))
def test_a_fork_of_a_damaged_run_shows_its_own_events_all_the_same(
    done: list[tuple[str, int]],
) -> None:
    data = b"".join(line + b"\n" for line in WHOLE)
    for damage in done:
        data = damaged(data, damage)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / f"{RUN}.jsonl").write_bytes(data)
        path = write(Path(name), [forked(5), notice(6, "own", FORK), ended(7, FORK)])
        seen = [msgspec.json.decode(line) for line in asyncio.run(shown(path))]
        assert {event["runId"] for event in seen} == {FORK}
        assert [event["seq"] for event in seen] == list(range(8))
        assert seen[6]["text"] == "own"
        if any(event["kind"] == "void" for event in seen[:5]):
            assert any("lost here" in event.get("text", "") for event in seen[:5])
