"""The commands that let past runs go on, and what they print."""

import argparse

import pytest

from engine_harness import cell, final
from rlm_server.doors.again import again_command
from rlm_server.protocol import FollowUpOptions, FollowUpParams, LimitOverrides
from scripted_engine import ask, at_rest, engine, home

__all__ = ["home"]
pytestmark = pytest.mark.usefixtures("home")

ONCE = FollowUpOptions(limits=LimitOverrides(iterations=1))


def command(name: str, run_id: str, **given: object) -> argparse.Namespace:
    options = {"cost": None, "iterations": 9, "code": None, "model": None, "note": "", **given}
    return argparse.Namespace(command=name, run=run_id, **options)


@pytest.mark.parametrize("name", ["resume", "fork"])
async def test_a_run_with_further_questions_prints_the_answer_to_the_last(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with engine([final('"one"'), cell("x = 1")]) as server:
        run = await ask(server)
        again, _ = await server.follow_up(
            FollowUpParams(run_id=run.run_id, question="And then?", options=ONCE)
        )
        await at_rest(again)
        assert again.ended.status == "limit"
    async with engine([final('"two"')]) as server:
        assert await again_command(server, command(name, run.run_id, at=2)) == 0
        out, told = capsys.readouterr()
        assert out == "two\n"
        assert "done: The question is answered." in told
        [rests] = server.resting_runs()
        assert server.resting(rests).ended.status == "done"
