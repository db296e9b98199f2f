"""A further question that is resumed or revived is the same: its whole text, type, approval."""

import asyncio
import os

import msgspec
import pytest

from engine_harness import cell, final
from rlm_server.engine.run import Run
from rlm_server.engine.steering import Decision
from rlm_server.protocol import (
    MAX_EVENT_TEXT,
    Answer,
    ApprovalWanted,
    FollowUp,
    FollowUpOptions,
    FollowUpParams,
    LimitOverrides,
    ResumeParams,
)
from rlm_server.runs.texts import HASH
from scripted_engine import ask, at_rest, engine, events, home

__all__ = ["home"]
pytestmark = pytest.mark.usefixtures("home")

LONG = f"How many?{' ' * MAX_EVENT_TEXT}And mind the gap.{' ' * MAX_EVENT_TEXT}Really?"
TYPED = FollowUpOptions(
    schema={"type": "integer"}, approve=True, limits=LimitOverrides(iterations=1)
)


async def approved(run: Run, cells: int) -> None:
    """Approve the code that waits, when so many pieces have, and wait for the end."""
    async with asyncio.timeout(60):
        while len(waiting := [e for e in events(run) if isinstance(e, ApprovalWanted)]) < cells:
            await run.log.grown(run.log.size)
    last = waiting[-1]
    assert run.steering.decide(last.node, last.cell, Decision("approve"), rest=False)
    await at_rest(run)


async def cut_short() -> Run:
    """A run whose further question was cut short after its first piece of code."""
    async with engine([final(), cell("x = 3")]) as server:
        run = await ask(server)
        params = FollowUpParams(run_id=run.run_id, question=LONG, options=TYPED)
        await server.follow_up(params)
        await approved(run, 1)
        assert run.ended.status == "limit"
    return run


async def test_a_resumed_further_question_is_the_same() -> None:
    run = await cut_short()
    [told] = [event for event in events(run) if isinstance(event, FollowUp)]
    assert told.question != LONG
    assert (told.schema, told.approve) == (TYPED.schema, True)
    async with engine([final("str(x)")]) as server:
        more = LimitOverrides(iterations=9)
        again = await server.durable.resume(ResumeParams(run_id=run.run_id, limits=more))
        await approved(again, 2)
        assert again.ended.status == "done"
        asked = "".join(message["content"] for message in server.models.prompts[0])
        assert LONG in asked
        assert [e.value for e in events(again) if isinstance(e, Answer)][-1] == 3


async def test_a_revived_run_goes_on_with_what_was_asked_last() -> None:
    run = await cut_short()
    async with engine([final("str(x)")]) as server:
        await server.durable.revive(run.run_id)
        params = FollowUpParams(run_id=run.run_id, question="And now?", options=FollowUpOptions())
        again, _ = await server.follow_up(params)
        await approved(again, 2)
        assert again.ended.status == "done"
        asked = "".join(message["content"] for message in server.models.prompts[0])
        assert LONG in asked
        assert [e.value for e in events(again) if isinstance(e, Answer)][-1] is msgspec.UNSET


async def test_the_text_of_a_further_question_is_kept_as_long_as_its_run() -> None:
    async with engine([final(), final(), final()]) as server:
        run, other = await ask(server), await ask(server)
        await server.follow_up(FollowUpParams(run_id=run.run_id, question=LONG))
        await at_rest(run)
        [text] = (path for path in server._texts.directory.glob("*") if len(path.name) > HASH)
        assert text.read_text() == LONG
        os.utime(text, (0, 0))
        await server.delete(other.run_id)
        assert text.exists()
        await server.delete(run.run_id)
        assert not text.exists()
