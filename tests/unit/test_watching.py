"""A watch by itself: what each run that it starts may cost, and how it ends."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine_harness import final
from rlm_server.engine import watching
from rlm_server.engine.watching import Watch
from rlm_server.protocol import (
    AskOptions,
    AskParams,
    FileSource,
    LimitOverrides,
    Usage,
    WatchParams,
)
from scripted_engine import at_rest, engine, home

__all__ = ["home"]


class Reruns:
    """Starts runs that cost a dollar, and remembers what they might have cost."""

    def __init__(self) -> None:
        self.limits: list[float | None] = []

    async def has_changed(self, run_id: str) -> bool:
        return True

    async def rerun(self, params):
        async def over() -> None: ...

        self.limits.append(params.limits.cost)
        log = SimpleNamespace(path="log")
        end = SimpleNamespace(usage=Usage(cost=1.0))
        return SimpleNamespace(run_id=params.run_id + "'", log=log, ended=end, over=over)


@pytest.mark.parametrize(
    ("budget", "limit", "costs"),
    [
        (None, None, [None] * 3),
        (None, 1.5, [1.5] * 3),
        (2.5, None, [2.5, 1.5, 0.5]),
        (2.5, 2.0, [2.0, 1.5, 0.5]),
        (2.5, 0.0, [0.0] * 3),
        (1.5, 9.0, [1.5, 0.5]),
    ],
)
async def test_a_run_costs_what_it_may_and_what_the_watch_may(
    monkeypatch: pytest.MonkeyPatch, budget: float | None, limit: float | None, costs: list
) -> None:
    async def changes(places):
        for _ in range(3):
            yield

    monkeypatch.setattr(watching, "changes", changes)
    reruns = Reruns()
    await Watch(reruns, "r", ["/a"], budget, lambda told, run: None, limit=limit).run()  # type: ignore[arg-type]
    assert reruns.limits == costs


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("asked", [None, 0.5])
async def test_the_limit_of_the_watched_run_holds_for_each(
    tmp_path: Path, asked: float | None
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("alpha\n")
    async with engine([final()]) as server:
        limits = LimitOverrides(cost=asked)
        options = AskOptions(direct=False, limits=limits)
        source = FileSource(path=str(file))
        run = await server.ask(AskParams(question="?", sources=[source], options=options))
        await at_rest(run)
        params = WatchParams(run_id=run.run_id, budget=9.0)
        watch = await server.durable.watch(params, lambda told, run: None)
        assert watch._params().limits.cost == (asked or 9.0)


async def test_a_place_that_is_not_there_ends_the_watch_and_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    gone = str(tmp_path / "none" / "gone")
    watch = Watch(Reruns(), "r", [gone], None, lambda t, run: told.append(t.reason))  # type: ignore[arg-type]
    await asyncio.wait_for(watch.run(), 60)
    [reason] = told
    assert f"{gone} can't be watched any longer" in reason


async def test_a_place_that_goes_ends_the_watch_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    told: list[str] = []

    class Going(Reruns):
        async def has_changed(self, run_id: str) -> bool:
            tree.rmdir()
            return False

    import watchfiles

    async def awatch(*roots, **options):
        yield set()
        yield set()  # of the end of the tree; nothing follows
        await asyncio.Event().wait()

    monkeypatch.setattr(watchfiles, "awatch", awatch)
    watch = Watch(Going(), "r", [str(tree)], None, lambda t, run: told.append(t.reason))  # type: ignore[arg-type]
    await asyncio.wait_for(watch.run(), 60)
    assert len(told) == 1
    assert f"{tree} can't be watched any longer" in told[0]
