"""The first cell of a reply, begun while the reply goes on: faster, and otherwise the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine_harness import cell, final, prepare
from rlm_server.config import Config, CostsConfig, SpeculationConfig
from rlm_server.engine.early import EarlyCell
from rlm_server.errors import TransientError
from rlm_server.models import Listener
from rlm_server.protocol import (
    AskOptions,
    CellDone,
    CellStarted,
    Notice,
    Output,
    ReplyDone,
    SubcallDone,
    SubcallStarted,
)
from streamed_root import Streams, in_two, stream, whole


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a reply's first cell has begun early, or was kept back where it would have."""
    event = asyncio.Event()
    start = EarlyCell._start

    def noting(early: EarlyCell, code: str) -> None:
        start(early, code)
        event.set()

    monkeypatch.setattr(EarlyCell, "_start", noting)
    return event


ASKING = cell('told = llm_query("What is it?")\nprint(told)')


async def test_a_cell_begins_while_its_reply_goes_on(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def sub(prompt: str) -> str:
        asked.set()
        return "a list"

    played = prepare(tmp_path, [], sub=sub)
    # Without, this reply would never end.
    models = await stream(played, in_two(ASKING, asked.wait, "It asks.\n"), whole(final("told")))
    assert played.answer == "a list"
    kinds = [type(e) for e in played.events if e.node.startswith("0.1")]
    wanted = [ReplyDone, CellStarted, SubcallStarted, SubcallDone, Output, CellDone]
    assert [kind for kind in kinds if kind in wanted] == wanted
    assert [e.seq for e in played.events] == list(range(len(played.events)))
    assert [e.early for e in played.of(CellDone)] == [True, False]
    assert models.asked[1][-2]["content"] == ASKING + "It asks.\n"


@pytest.mark.parametrize(
    ("options", "config", "limits"),
    [
        (AskOptions(speculate=False), Config(), {}),
        (AskOptions(), Config(speculation=SpeculationConfig(cells=False)), {}),
        (AskOptions(), Config(), {"tokens": 100_000}),
        (AskOptions(), Config(costs=CostsConfig(monthly_limit=5.0)), {}),
    ],
)
async def test_where_it_is_not_wanted_it_waits(
    tmp_path: Path, options: AskOptions, config: Config, limits: dict[str, Any]
) -> None:
    asked = asyncio.Event()

    async def a_while() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked.wait(), 0.1)

    def sub(prompt: str) -> str:
        asked.set()
        return "a list"

    played = prepare(tmp_path, [], sub=sub, options=options, config=config, **limits)
    await stream(played, in_two(ASKING, a_while, "It asks.\n"), whole(final("told")))
    assert played.answer == "a list"
    assert not any(e.early for e in played.of(CellDone))


async def test_a_pause_while_the_model_writes_keeps_its_code_back(
    tmp_path: Path, tried: asyncio.Event
) -> None:
    played = prepare(tmp_path, [])

    async def pause() -> None:
        played.run.steering.pause(True)
        await tried.wait()
        asyncio.get_running_loop().call_soon(played.run.steering.pause, False)

    await stream(played, in_two(cell("print(context)"), pause, "Done.\n"), whole(final("'42'")))
    assert played.answer == "42"
    assert [e.early for e in played.of(CellDone)] == [False, False]


async def test_a_cell_whose_reply_breaks_off_never_happened(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def sub(prompt: str) -> str:
        asked.set()
        if prompt == "hang":
            await asyncio.Event().wait()
        return "a list"

    async def broken(listener: Listener) -> str:
        listener.delta("text", cell('x = 1\nllm_query("a")\nllm_query("hang")'))
        await asked.wait()
        listener.restarted("the connection was lost")
        again = cell("print('x' in globals(), len(history))")
        listener.delta("text", again)
        return again

    played = prepare(tmp_path, [], sub=sub)
    models = await stream(played, broken, whole(final()))
    assert "False 0" in models.asked[1][-1]["content"]
    assert played.of(CellStarted)[0].code == "print('x' in globals(), len(history))\n"
    assert not played.of(SubcallStarted)
    (notice,) = [e.text for e in played.of(Notice) if "undone" in e.text]
    assert "sub-calls may have to be paid" in notice
    assert played.end.usage.prompt_tokens > 30  # those calls too


async def test_a_reply_without_code_after_one_that_broke_off_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()

    def sub(prompt: str) -> str:
        asked.set()
        return "a list"

    async def broken(listener: Listener) -> str:
        listener.delta("text", ASKING)
        await asked.wait()
        listener.restarted("the connection was lost")
        listener.delta("text", "I have no code this time.")
        return "I have no code this time."

    played = prepare(tmp_path, [], sub=sub)
    await stream(played, broken, whole(final()))
    assert played.end.status == "done"
    assert not played.of(SubcallStarted)
    texts = [e.text for e in played.of(Notice) if e.node == "0.1"]
    assert [("undone" in text, "no code" in text) for text in texts[-2:]] == [
        (True, False),
        (False, True),
    ]
    assert played.run._calls.unsure == {}
    assert played.run._emitter._held == {}


async def test_no_reply_at_all_leaves_nothing_behind(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def sub(prompt: str) -> str:
        asked.set()
        return "a list"

    async def failing(listener: Listener) -> str:
        listener.delta("text", ASKING)
        await asked.wait()
        raise TransientError("The server has gone.")

    played = prepare(tmp_path, [], sub=sub)
    await stream(played, failing)
    assert played.end.status == "failed"
    assert not played.of(CellStarted)
    assert any("undone" in e.text for e in played.of(Notice))


async def test_a_run_can_be_cancelled_meanwhile(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def sub(prompt: str) -> str:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    played = prepare(tmp_path, [], sub=sub)
    Streams(played, [in_two(ASKING, asyncio.Event().wait, "")])
    task = played.run.start()
    await asyncio.wait_for(asked.wait(), 60)
    assert played.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert played.end.status == "cancelled"
    assert played.models.in_flight == 0
    assert not played.of(CellStarted)


SCRIPTS = [
    [cell("x = [1]") + "Some.\n" + cell("x.append(2)\nprint(x)"), final("str(x)")],
    [cell("x = 1\n1 / 0") + "and\n" + cell("y = 2"), cell("'y' in globals()"), final("str(x)")],
    ["```repl\nanswer['content'], answer['ready'] = len(context), True\n```\nDone.\n"],
    [cell('answer["content"] = "3"; answer["ready"] = True') + "No.\n", final()],
    [cell("open('f', 'w').write('x')\nprint(3)") + "ok\n", final("open('f').read()")],
    [cell("print(history)"), cell("print(history[0].reply, history[0].number)"), final()],
    [cell("import os; os._exit(3)") + "gone\n", cell("print(context)"), final()],
]


@pytest.mark.parametrize("script", SCRIPTS)
async def test_nothing_else_is_different(
    tmp_path: Path, script: list[str], tried: asyncio.Event
) -> None:
    async def begun() -> None:
        await tried.wait()
        tried.clear()

    async def not_begun() -> None:
        assert not tried.is_set()

    seen = []
    for early in (False, True):
        directory = tmp_path / str(early)
        directory.mkdir()
        config = Config(speculation=SpeculationConfig(cells=early))
        played = prepare(directory, [], config=config)
        streams = []
        for text in script:
            cut = text.index("```\n", text.index("```repl")) + 4
            streams.append(in_two(text[:cut], begun if early else not_begun, text[cut:]))
        models = await stream(played, *streams)
        told = [msgspec.to_builtins(e) for e in played.events]
        plain = [
            {k: v for k, v in e.items() if k not in ("time", "seconds", "early", "usage", "text")}
            for e in told
            if e["kind"] not in ("progress", "replyDelta", "output", "runStarted")
        ]
        printed = "".join(e.text for e in played.of(Output))
        seen.append((models.asked, printed, played.answer, [p["kind"] for p in plain]))
        assert any(e.early for e in played.of(CellDone)) == early
    assert seen[0] == seen[1]
