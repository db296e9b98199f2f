"""What a resumed run has used before counts against the limits of the question that goes on."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from engine_harness import Played, ScriptedModels, cell, played, prepare, resume
from rlm_server.errors import TransientError
from rlm_server.models import Completion
from rlm_server.protocol import LimitOverrides, Limits

CELLS = [cell("print(1)")] * 9


class Dear(ScriptedModels):
    """Each call costs a dollar."""

    async def complete(self, name, messages, **options) -> Completion:
        completion = await super().complete(name, messages, **options)
        completion.usage.cost = 1.0
        return completion


def use(run: Played, models: Dear) -> Dear:
    run.run._models = run.run._calls._models = run.models = models
    return models


async def resumed(directory: Path, log: bytes, limits: Limits, replies=CELLS) -> Played:
    directory.mkdir()
    again = resume(directory, log, Dear(replies), limits=limits)
    await asyncio.wait_for(again.run.start(), 50)
    return again


async def test_money_that_was_used_before_is_not_there_again(tmp_path: Path) -> None:
    run = prepare(tmp_path, [], iterations=9, cost=2.5)
    use(run, Dear(CELLS))
    await asyncio.wait_for(run.run.start(), 50)
    assert (run.end.status, run.end.usage.cost) == ("limit", 3.0)
    log = run.run.log.path.read_bytes()
    same = await resumed(tmp_path / "same", log, Limits(iterations=9, cost=2.5))
    assert (same.end.status, same.models.asked) == ("limit", [])
    more = await resumed(tmp_path / "more", log, Limits(iterations=9, cost=4.5))
    assert (more.end.status, more.end.usage.cost) == ("limit", 5.0)
    assert len(more.models.asked) == 2


async def cut_short(tmp_path: Path, **limits: float) -> bytes:
    """The log of a run whose further question was cut short after one reply; two were before."""
    async with played(tmp_path, [], iterations=2) as run:
        models = use(run, Dear([*CELLS[:3], TransientError("gone")]))
        await run.ended()
        await run.ask_on("And then?", limits=LimitOverrides(iterations=9, **limits))
        assert (run.end.status, run.end.usage.cost) == ("failed", 3.0)
        assert len(models.asked) == 4
        return run.run.log.path.read_bytes()


@pytest.mark.parametrize(("cost", "calls"), [(2.5, 2), (4.5, 4)])
async def test_a_further_question_goes_on_with_what_it_has_used_itself(
    tmp_path: Path, cost: float, calls: int
) -> None:
    log = await cut_short(tmp_path, cost=2.5)
    again = await resumed(tmp_path / "again", log, Limits(iterations=9, cost=cost))
    assert again.end.status == "limit"
    assert len(again.models.asked) == calls
    assert again.end.usage.cost == 3.0 + calls


def later(log: bytes, first: float, second: float) -> bytes:
    """A log whose two questions took so many seconds."""
    events = [json.loads(line) for line in log.splitlines()]
    begun = next(event["seq"] for event in events if event["kind"] == "followUp")
    for event in events:
        if "seconds" in event and event["kind"] in ("progress", "runEnded"):
            event["seconds"] = first + (second if event["seq"] > begun else 0)
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


async def test_the_time_of_earlier_questions_is_not_that_of_the_last(tmp_path: Path) -> None:
    log = await cut_short(tmp_path)
    limits = Limits(iterations=3, seconds=1000)
    whole = await resumed(tmp_path / "whole", later(log, 5000, 10), limits)
    assert (whole.end.status, len(whole.models.asked)) == ("limit", 2)
    assert "3 iterations" in whole.end.reason
    assert 5010 <= whole.end.seconds < 6010
    over = await resumed(tmp_path / "over", later(log, 10, 5000), limits)
    assert (over.end.status, over.models.asked) == ("limit", [])
    assert "1000 s" in over.end.reason
