"""What somebody looks at is asked first: the root's replies of a run that a client follows."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from engine_harness import cell, final, prepare
from rlm_server.config import Config
from rlm_server.engine.service import Engine
from rlm_server.models import Models, Priority
from rlm_server.protocol import AskParams, TextSource

REPLIES = [cell('x = llm_query("a"); y = rlm_query("more?", "text")'), final(), final()]


async def play(tmp_path: Path, *, watched: bool) -> list[tuple[str, Priority]]:
    config = Config(max_depth=2, depth_models=["root-1"])
    played = prepare(tmp_path, REPLIES, config=config)
    if watched:
        with played.run.account.watched():
            await asyncio.wait_for(played.run.start(), 50)
    else:
        await asyncio.wait_for(played.run.start(), 50)
    assert played.end.status == "done"
    return played.models.asked


async def test_the_root_of_a_run_that_is_watched_comes_before_sub_calls(tmp_path: Path) -> None:
    assert await play(tmp_path, watched=True) == [
        ("root", Priority.WATCHED),
        ("sub", Priority.SUBCALL),
        ("root-1", Priority.SUBCALL),
        ("root", Priority.WATCHED),
    ]


async def test_a_run_that_nobody_looks_at_waits_like_a_sub_call(tmp_path: Path) -> None:
    asked = await play(tmp_path, watched=False)
    assert {priority for _, priority in asked} == {Priority.SUBCALL}


async def test_a_run_is_watched_while_a_client_follows_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    config = Config(discover=False)
    engine = Engine(config, Models(config, {}))
    run = await engine.ask(AskParams(question="What?", sources=[TextSource(text="alpha\n")]))
    async with aclosing(engine.follow(run.run_id, 0)) as one:
        await anext(one)
        async with aclosing(engine.follow(run.run_id, 0)) as other:
            await anext(other)
            assert run.account.watchers == 2
        assert run.account.watchers == 1
    assert run.account.watchers == 0
    await engine.close()
