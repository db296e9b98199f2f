"""A run that was killed goes on: nothing is paid twice, nothing told twice, the answer the same."""

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from engine_harness import Played, ScriptedModels, cell, final, prepare, resume
from rlm_server.config import Config, ProfileConfig
from rlm_server.errors import RefusedError
from rlm_server.protocol import (
    Answer,
    CellDone,
    CellStarted,
    ChildDone,
    IterationStarted,
    Limits,
    Notice,
    Output,
    Provenance,
    ReplyDone,
    RunEnded,
    RunResumed,
    SubcallDone,
    SubcallStarted,
)

BATCH = """
import random, time
print("before", random.random(), time.gmtime().tm_year)
replies = llm_query_batched([f"number {n}" for n in range(5)] + ["number 0"])
print("after", replies)
total = sum(int(reply) for reply in replies)
"""
SCRIPT = [
    cell("x = 1\nprint(len(context), x)"),
    "No code at all here.",
    cell(BATCH) + "\nAnd then:\n" + cell("y = llm_query('one more')\nprint(y, total)"),
    cell("import random\nz = llm_query('last')\nprint(total, 1/0)"),
    final("f'{x} {total} {y} {z} {random.random()}'"),
]


class Counted(ScriptedModels):
    """Replies by the place in the conversation, and remembers what was asked."""

    def __init__(self, script=SCRIPT) -> None:
        super().__init__([], self.answer_call)
        self.script = script
        self.paid: Counter[str] = Counter()

    async def _say(self, name, messages):
        if name == "root":
            turn = sum(message["role"] == "assistant" for message in messages)
            self.paid[f"root {turn}"] += 1
            return self.script[turn]
        return await super()._say(name, messages)

    def answer_call(self, prompt: str) -> str:
        if prompt.startswith("wrong"):
            raise RefusedError("no")
        self.paid[prompt] += 1
        return prompt.rpartition(" ")[2] if "number" in prompt else f"<{prompt}>"


async def whole(tmp_path: Path, script=SCRIPT, **options) -> tuple[Played, list[bytes]]:
    played = prepare(tmp_path, [], **options)
    models = Counted(script)
    played.run._models = played.run._calls._models = played.models = models
    await asyncio.wait_for(played.run.start(), 50)
    return played, played.run.log.path.read_bytes().splitlines(keepends=True)


def recorded(lines: list[bytes]) -> Counter[str]:
    """What of a log is paid for and whole: it must not be asked again."""
    found: Counter[str] = Counter()
    asked = {}
    for line in lines:
        event = msgspec.json.decode(line)
        if event["kind"] == "replyDone":
            found[f"root {int(event['node'].split('.')[1]) - 1}"] += 1
        elif event["kind"] == "subcallStarted":
            asked[event["node"]] = event["prompt"]
        elif event["kind"] == "subcallDone":
            found[asked[event["node"]]] += 1
    return found


async def test_killed_after_any_event_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    played, lines = await whole(tmp_path / "whole")
    assert played.end.status == "done"
    assert sum(played.models.paid.values()) == 5 + 8
    for count in range(1, len(lines)):
        directory = tmp_path / str(count)
        directory.mkdir()
        models = Counted()
        # With half a line more, as a kill may leave it.
        log = b"".join(lines[:count]) + lines[count][: len(lines[count]) // 2]
        again = resume(directory, log, models)
        await asyncio.wait_for(again.run.start(), 50)
        told = f"after {count} events: {lines[count - 1][:80]!r}"
        assert again.end.status == "done", (told, again.end)
        assert again.end.usage == played.end.usage, told
        assert again.answer.endswith(played.answer), told
        assert recorded(lines[:count]) + models.paid == played.models.paid, told
        assert [event.seq for event in again.events] == list(range(len(again.events)))
        assert_nothing_told_twice(again, played, told)


def assert_nothing_told_twice(again: Played, played: Played, told: str) -> None:
    void = {
        n for e in again.of(RunResumed) for first, last in e.void for n in range(first, last + 1)
    }
    counted = [event for event in again.events if event.seq not in void]
    for kind in (IterationStarted, ReplyDone, CellStarted, CellDone, SubcallStarted, SubcallDone,
                 Answer, RunEnded):  # fmt: skip
        places = [(e.node, getattr(e, "cell", 0)) for e in counted if isinstance(e, kind)]
        assert sorted(places) == sorted((e.node, getattr(e, "cell", 0)) for e in played.of(kind)), (
            told,
            kind,
        )
    printed = "".join(e.text for e in counted if isinstance(e, Output))
    assert printed == "".join(e.text for e in played.of(Output)), told
    texts = [e.text for e in counted if isinstance(e, Notice)]
    assert texts == [e.text for e in played.of(Notice)], told


async def again(tmp_path: Path, log: bytes, script=SCRIPT, **options) -> Played:
    tmp_path.mkdir(exist_ok=True)
    played = resume(tmp_path, log, Counted(script), **options)
    await asyncio.wait_for(played.run.start(), 50)
    return played


CHILD = [
    cell("x = rlm_query('child one', context[:5])\nprint(x)"),
    cell("ys = rlm_query_batched(['child two', 'child three'])\nw = llm_query('end')"),
    final("f'{x} {ys} {w}'"),
]
OF_CHILD = [cell("a = llm_query('inner ' + context[:2])\nprint(a)"), final("'answer ' + a")]


class Family(Counted):
    """Child runs have a script of their own."""

    async def _say(self, name, messages):
        turn = sum(message["role"] == "assistant" for message in messages)
        asked = messages[1]["content"].partition("\n")[0]
        if "The context holds" not in messages[1]["content"]:
            return self.answer_call(messages[-1]["content"])
        self.paid[f"{asked} {turn}"] += 1
        return (OF_CHILD if "child" in asked else CHILD)[turn]


async def test_child_runs_go_on_where_they_were(tmp_path: Path) -> None:
    deep = Config(max_depth=2)
    (tmp_path / "whole").mkdir()
    played = prepare(tmp_path / "whole", [], config=deep)
    models = played.run._models = played.run._calls._models = played.models = Family()
    await asyncio.wait_for(played.run.start(), 50)
    assert played.end.status == "done", played.end
    lines = played.run.log.path.read_bytes().splitlines(keepends=True)
    assert len(played.of(ChildDone)) == 3
    for count in range(1, len(lines), 3):
        (tmp_path / str(count)).mkdir()
        other = resume(tmp_path / str(count), b"".join(lines[:count]), Family(), config=deep)
        await asyncio.wait_for(other.run.start(), 50)
        told = f"after {count} events: {lines[count - 1][:80]!r}"
        assert (other.end.status, other.answer) == ("done", played.answer), told
        assert other.end.usage == played.end.usage, told
        assert other.end.subcalls == played.end.subcalls, told
        paid = sum(
            e["kind"] in ("replyDone", "subcallDone")
            for e in map(msgspec.json.decode, lines[:count])
        )
        assert paid + sum(other.models.paid.values()) == sum(models.paid.values()), told


async def test_a_run_that_was_resumed_can_be_killed_and_resumed_again(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    played, lines = await whole(tmp_path / "whole")
    log, paid = b"".join(lines[:12]), recorded(lines[:12])
    for stop in (20, 21, 33, 45, 60):
        part = await again(tmp_path / str(stop), log)
        now = part.run.log.path.read_bytes().splitlines(keepends=True)
        paid = recorded(now[:stop])
        log = b"".join(now[:stop])
    last = await again(tmp_path / "last", log)
    assert (last.end.status, last.end.usage) == ("done", played.end.usage)
    assert len(last.of(RunResumed)) == 6
    assert paid + last.models.paid == played.models.paid


HUNG = """
print("begun")
n = llm_query("before")
made = 5
try:
    while True:
        sum(range(1000))
except KeyboardInterrupt:
    made = 6
    raise
"""
KILLED = "made = 7\nprint('dies')\nimport os\nos._exit(3)"


@pytest.mark.parametrize(("code", "expected"), [(HUNG, "6"), (KILLED, "1")])
async def test_a_cell_that_was_stopped_is_stopped_again_without_waiting(
    tmp_path: Path, code: str, expected: str
) -> None:
    script = [cell("made = 1"), cell(code), cell("print(made)"), final("made")]
    (tmp_path / "whole").mkdir()
    played, lines = await whole(tmp_path / "whole", script, cell_seconds=1.5)
    assert played.end.status == "done"
    assert played.answer == expected
    told = [e.status for e in played.of(CellDone)]
    assert told[1] in ("timeout", "died")
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.4"' in line)
    other = await again(tmp_path / "again", b"".join(lines[:cut]), script)
    assert other.answer == expected
    assert other.models.paid == Counter({"root 3": 1})
    [resumed] = other.of(RunResumed)
    assert other.end.time - resumed.time < 1.4  # less than the cell had taken


async def test_limits_count_what_was_used_before_and_can_be_raised(tmp_path: Path) -> None:
    for name in ("whole", "full"):
        (tmp_path / name).mkdir()
    full, _ = await whole(tmp_path / "full")
    played, lines = await whole(tmp_path / "whole", iterations=3)
    assert played.end.status == "limit"
    log = b"".join(lines)
    same = await again(tmp_path / "same", log)
    assert (same.end.status, same.models.paid) == ("limit", Counter())
    less = await again(tmp_path / "less", log, limits=Limits(iterations=4, subcalls=7))
    assert less.models.paid == Counter({"root 3": 1})
    assert "sub-calls is reached" in less.of(SubcallDone)[-1].error.message  # the eighth
    more = await again(tmp_path / "more", log, limits=Limits(iterations=9))
    assert (more.end.status, more.answer) == ("done", full.answer)
    assert more.models.paid == Counter({"root 3": 1, "last": 1, "root 4": 1})
    kinds = [type(e).__name__ for e in more.events if e.seq >= len(lines)]
    assert kinds[0] == "RunResumed"


async def test_a_cancelled_run_goes_on_in_its_cell(tmp_path: Path) -> None:
    script = [
        cell("a = llm_query('one')\nprint(a)\nb = llm_query('two')\nprint(b)"),
        final("a + b"),
    ]
    models = Counted(script)
    (tmp_path / "whole").mkdir()
    played = prepare(tmp_path / "whole", [])
    played.run._models = played.run._calls._models = models
    asked = asyncio.Event()

    async def hang() -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    answer = models.answer_sub
    models.answer_sub = lambda prompt: hang() if prompt == "two" else answer(prompt)
    task = played.run.start()
    await asyncio.wait_for(asked.wait(), 60)
    played.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert played.end.status == "cancelled"
    other = await again(tmp_path / "again", played.run.log.path.read_bytes(), script)
    assert (other.end.status, other.answer) == ("done", "<one><two>")
    assert other.models.paid == Counter({"two": 1, "root 1": 1})
    printed = "".join(event.text for event in other.of(Output))
    assert printed.count("<one>") == 1


async def test_code_that_asks_something_else_this_time_pays_and_says_so(tmp_path: Path) -> None:
    script = [
        cell("import time\nwhere = time.monotonic()\nc = llm_query(f'from {where}')"),
        final("'done'"),
    ]
    (tmp_path / "whole").mkdir()
    _, lines = await whole(tmp_path / "whole", script)
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.2"' in line)
    other = await again(tmp_path / "again", b"".join(lines[:cut]), script)
    assert other.end.status == "done"
    [notice] = other.of(Notice)
    assert "what is not in the record" in notice.text


async def test_a_damaged_log_costs_what_was_lost_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    played, lines = await whole(tmp_path / "whole")
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.5"' in line)
    for number in range(1, cut, 4):
        kept = [b"garbage\n" if n == number else line for n, line in enumerate(lines[:cut])]
        other = await again(tmp_path / str(number), b"".join(kept))
        told = f"without {lines[number][:80]!r}"
        assert (other.end.status, other.answer) == ("done", played.answer), told
        assert sum(other.models.paid.values()) <= 2, told


def until_cell(played: Played) -> bytes:
    """The log up to the end of its first cell."""
    lines = played.run.log.path.read_bytes().splitlines(keepends=True)
    end = next(n for n, line in enumerate(lines) if line.startswith(b'{"kind":"cellDone"'))
    return b"".join(lines[: end + 1])


async def test_it_is_told_what_it_was_told_whatever_notes_are_accepted_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CONFIG", str(tmp_path / "config.toml"))
    notes = tmp_path / "notes.md"
    notes.write_text("## any\n- Look before you leap.\n")
    played = prepare(tmp_path / "run", [cell("x = context[:1]"), final("x")])
    await asyncio.wait_for(played.run.start(), 50)
    killed = until_cell(played)
    (tmp_path / "again").mkdir()
    for today in ("## any\n- Leap at once.\n", ""):
        notes.write_text(today)
        models = ScriptedModels([final("x")])
        again = resume(tmp_path / "again", killed, models)
        await asyncio.wait_for(again.run.start(), 50)
        assert models.prompts[0] == played.models.prompts[1]
        assert "Look before you leap." in models.prompts[0][1]["content"]
        assert [notice.text for notice in again.of(Notice)] == [
            "Strategy notes are used: Look before you leap."
        ]


async def test_it_says_if_the_model_is_told_something_else_than_then(tmp_path: Path) -> None:
    played = prepare(tmp_path / "run", [cell("x = context[:1]"), final("x")])
    await asyncio.wait_for(played.run.start(), 50)
    killed = until_cell(played)
    (tmp_path / "again").mkdir()
    profile = ProfileConfig(match=["scripted/*"], advice="Think of the boats.")
    for profiles, warnings in ({}, 0), ({"boats": profile}, 1):
        models = ScriptedModels([final("x")])
        config = Config(profiles=profiles)
        again = resume(tmp_path / "again", killed, models, config=config)
        await asyncio.wait_for(again.run.start(), 50)
        assert again.end.status == "done"
        told = [notice for notice in again.of(Notice) if "has changed since" in notice.text]
        assert len(told) == warnings


DIED = "a = llm_query('lost')\nimport os\nos._exit(3)"
IN_VAIN = "y = [llm_query(f'{word} turn') for word in ('first', 'wrong', 'third', 'fourth')]"


@pytest.mark.parametrize(("code", "calls"), [(DIED, 1), (IN_VAIN, 4)])
async def test_calls_that_no_code_asks_again_count_all_the_same(
    tmp_path: Path, code: str, calls: int
) -> None:
    script = [cell("x = 1"), cell(code), cell("print(x)"), final("x")]
    (tmp_path / "whole").mkdir()
    played, lines = await whole(tmp_path / "whole", script)
    assert (played.end.status, played.end.subcalls) == ("done", calls)
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.3"' in line)
    other = await again(tmp_path / "again", b"".join(lines[:cut]), script)
    assert other.models.paid == Counter({"root 2": 1, "root 3": 1})
    assert other.end.usage == played.end.usage
    assert other.end.subcalls == played.end.subcalls


LOOP = """
kept = []
for number in range(8):
    kept.append(llm_query(f'turn {number}'))
    print("had", number)
"""


def printed(played: Played) -> str:
    return "".join(event.text for event in played.of(Output))


async def test_a_cell_that_was_stopped_in_a_batched_loop_is_stopped_there_at_once(
    tmp_path: Path,
) -> None:
    script = [cell(LOOP), cell("print(kept)"), final("len(kept)")]
    models = Counted(script)
    (tmp_path / "whole").mkdir()
    played = prepare(tmp_path / "whole", [])
    played.run._models = played.run._calls._models = models
    answer, hung = models.answer_sub, asyncio.Event()

    async def hang() -> str:
        hung.set()
        await asyncio.Event().wait()
        return ""

    models.answer_sub = lambda prompt: hang() if prompt == "turn 3" else answer(prompt)
    task = played.run.start()
    await asyncio.wait_for(hung.wait(), 60)
    while len(played.of(SubcallDone)) < 7 or "had 2" not in printed(played):  # all but one call
        await played.run.log.grown(played.run.log.size)
    assert played.run.cancel("0.1")
    await asyncio.wait_for(task, 60)
    assert played.end.status == "done"
    assert (played.answer, played.end.subcalls) == ("3", 8)
    [stopped, *_] = played.of(CellDone)
    assert (stopped.status, stopped.in_vain) == ("cancelled", 4)
    lines = played.run.log.path.read_bytes().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.2"' in line)
    # As if it had taken an hour until it was stopped.
    log = b"".join(lines[:cut]).replace(
        f'"seconds":{stopped.seconds}'.encode(), b'"seconds":3600.0'
    )
    assert b"3600.0" in log
    other = await again(tmp_path / "again", log, script)
    assert (other.end.status, other.answer) == ("done", "3")
    assert other.models.paid == Counter({"root 1": 1, "root 2": 1})
    assert other.end.usage.completion_tokens == played.end.usage.completion_tokens
    assert other.end.subcalls == 8


async def test_calls_that_a_limit_refused_ahead_of_a_loop_are_answered_as_then(
    tmp_path: Path,
) -> None:
    script = [
        cell("kept = [llm_query(f'turn {n}') for n in range(4)]"),
        cell("print(kept)"),
        final("len(kept)"),
    ]
    models = Counted(script)
    models.prices = {"sub": (1.0, 1.0)}
    (tmp_path / "whole").mkdir()
    played = prepare(tmp_path / "whole", [], cost=0.02)  # enough to set aside for two at once
    played.run._models = played.run._calls._models = models
    answer = models.answer_sub

    async def after_a_refusal(prompt: str) -> str:
        while not any(event.error for event in played.of(SubcallDone)):
            await played.run.log.grown(played.run.log.size)
        return answer(prompt)

    models.answer_sub = after_a_refusal
    await asyncio.wait_for(played.run.start(), 60)
    assert (played.end.status, played.answer) == ("done", "4")
    lines = played.run.log.path.read_bytes().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.2"' in line)
    other = await again(tmp_path / "again", b"".join(lines[:cut]), script)
    assert (other.end.status, other.answer) == ("done", "4")
    assert other.models.paid == Counter({"root 1": 1, "root 2": 1})
    assert other.end.usage.completion_tokens == played.end.usage.completion_tokens
    assert [event for event in other.of(Notice) if event.level == "warning"] == []


async def test_what_was_read_before_counts_for_what_the_answer_is_drawn_from(
    tmp_path: Path,
) -> None:
    script = [cell("print(context[:8], 'gamma' in context)"), cell("x = 1"), final("'It is said.'")]
    (tmp_path / "whole").mkdir()
    played, lines = await whole(tmp_path / "whole", script)
    cut = next(n for n, line in enumerate(lines) if b'"node":"0.2"' in line)
    other = await again(tmp_path / "again", b"".join(lines[:cut]), script)
    [drawn], [then] = other.of(Provenance), played.of(Provenance)
    assert then.looked_through > 0
    assert (drawn.read, drawn.looked_through) == (then.read, then.looked_through)
    assert drawn.strip == then.strip
