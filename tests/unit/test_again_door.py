"""The commands that let past runs go on, and what they print."""

import argparse
import asyncio
from pathlib import Path

import pytest

from engine_harness import cell, final
from rlm_server.doors.again import again_command
from rlm_server.errors import NotResumableError
from rlm_server.protocol import FollowUpOptions, FollowUpParams, LimitOverrides
from scripted_engine import ask, at_rest, engine, home

__all__ = ["home"]
pytestmark = pytest.mark.usefixtures("home")

ONCE = FollowUpOptions(limits=LimitOverrides(iterations=1))


def command(name: str, run_id: str, **given: object) -> argparse.Namespace:
    options = {
        "cost": None,
        "iterations": 9,
        "code": None,
        "model": None,
        "note": "",
        "places": [],
        **given,
    }
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
        while not server.resting_runs():  # it is told that it has ended a moment before
            await asyncio.sleep(0.01)
        [rests] = server.resting_runs()
        assert server.resting(rests).ended.status == "done"


async def test_it_is_said_what_the_answer_is_drawn_from_and_what_can_not_be_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with engine([cell("x = 1"), final("'It says \"nothing of that kind\".'")]) as server:
        run = await ask(server)
        await at_rest(run)
    async with engine([final("'It says \"nothing of that kind\".'")]) as server:
        assert await again_command(server, command("fork", run.run_id, at=2)) == 0
    _, told = capsys.readouterr()
    assert "This answer is drawn from 100 % of the context" in told
    assert "warning: not in the context: nothing of that kind" in told


@pytest.mark.parametrize("content", [None, b"x = '\xff'"])
async def test_code_for_a_fork_that_can_not_be_read_is_told(
    tmp_path: Path, content: bytes | None
) -> None:
    async with engine([final('"one"')]) as server:
        run = await ask(server)
        await at_rest(run)
        file = tmp_path / "code.py"
        if content:
            file.write_bytes(content)
        with pytest.raises(NotResumableError, match=r"code\.py can't be read"):
            await again_command(server, command("fork", run.run_id, at=1, code=file))
