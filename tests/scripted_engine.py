"""A whole engine, with its runs, whose models are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from engine_harness import Scripted, ScriptedModels
from rlm_server.config import Config
from rlm_server.engine.run import Run
from rlm_server.engine.service import Engine
from rlm_server.protocol import AnyEvent, AskOptions, AskParams, LimitOverrides, TextSource
from rlm_server.runs.chain import events_of


class Models(ScriptedModels):
    """What an engine asks of its models beside answers."""

    async def look_around(self) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where engines have their state and their cache."""
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    return tmp_path


@asynccontextmanager
async def engine(
    replies: Sequence[Scripted], config: Config | None = None
) -> AsyncIterator[Engine]:
    """An engine whose root model says these replies; ``home`` has to be a fixture of the test."""
    made = Engine(config or Config(), Models(replies))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


async def ask(engine: Engine, question: str = "What is in it?", **limits: float) -> Run:
    """Ask about a text, and wait until the run has ended and rests."""
    options = AskOptions(direct=False, limits=LimitOverrides(**limits))  # type: ignore[arg-type]
    source = TextSource(text="alpha\nbeta\ngamma\n", name="greek.txt")
    run = await engine.ask(AskParams(question=question, sources=[source], options=options))
    await at_rest(run)
    return run


async def at_rest(run: Run) -> None:
    """Wait until a run has ended and rests."""
    await asyncio.wait_for(run.over(), 50)
    await asyncio.sleep(0)  # what is called when it ends lets it rest


def events(run: Run) -> list[AnyEvent]:
    """All events that a run's log has."""
    return [msgspec.json.decode(line, type=AnyEvent) for line in events_of(run.log.path)]
