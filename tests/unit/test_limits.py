"""Limits while a run goes on: raised, lowered, and told to the model before they are reached."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine_harness import Played, cell, final, play, prepare
from rlm_server.engine.ledger import ANSWER_TOKENS, Ledger, LimitReached, Price
from rlm_server.engine.nearing import Nearing
from rlm_server.protocol import LimitOverrides, Limits, LimitsChanged, Notice, Output, Usage


async def play_changing(tmp_path: Path, replies: list[Any], **limits: Any) -> Played:
    """Play a run; a reply that is a pair changes limits before it is said."""

    def saying(pair: tuple[LimitOverrides, str]) -> Any:
        def say(_: object) -> str:
            assert run.run.set_limits(pair[0])
            return pair[1]

        return say

    said = [saying(reply) if isinstance(reply, tuple) else reply for reply in replies]
    run = prepare(tmp_path, said, **limits)
    await asyncio.wait_for(run.run.start(), 50)
    return run


async def test_a_raised_limit_of_iterations_lets_the_run_go_on(tmp_path: Path) -> None:
    more = (LimitOverrides(iterations=5), cell("2"))
    run = await play_changing(tmp_path, [cell("1"), more, cell("3"), final()], iterations=2)
    assert (run.end.status, run.end.iterations) == ("done", 4)
    [changed] = run.of(LimitsChanged)
    assert (changed.node, changed.limits.iterations, changed.limits.seconds) == ("0.2", 5, 1800)


async def test_a_lowered_limit_of_iterations_ends_the_run_after_the_reply(tmp_path: Path) -> None:
    fewer = (LimitOverrides(iterations=1), cell('answer["content"] = "so far"'))
    run = await play_changing(tmp_path, [cell("1"), fewer, final()])
    assert (run.end.status, run.end.iterations, run.answer) == ("limit", 2, "so far")
    assert "1 iteration is reached" in run.end.reason


async def test_a_lowered_limit_of_seconds_stops_the_cell_and_keeps_its_answer(
    tmp_path: Path,
) -> None:
    run = prepare(tmp_path, [cell('answer["content"] = "early"\nprint("busy")\nwhile True: pass')])
    task = run.run.start()
    async with asyncio.timeout(60):
        while not run.of(Output):
            await run.run.log.grown(run.run.log.size)
    assert run.run.set_limits(LimitOverrides(seconds=0.01))
    await asyncio.wait_for(task, 60)
    assert (run.end.status, run.answer) == ("limit", "early")
    assert "0.01 s" in run.end.reason
    assert not run.run.set_limits(LimitOverrides(seconds=99))


async def test_a_raised_limit_of_seconds_moves_every_deadline(tmp_path: Path) -> None:
    left = []

    async def sub(_: str) -> str:
        assert run.run._loop and run.run._loop.repl and run.run._loop.repl._cell
        cell_of_loop = run.run._loop.repl._cell
        assert run.run.set_limits(LimitOverrides(seconds=7_200, cell_seconds=3_600))
        now = asyncio.get_running_loop().time()
        deadline = cell_of_loop._deadline
        assert deadline and run.run._timer
        left.extend([deadline.when() - now, (run.run._timer.when() or 0) - now])
        return "42"

    code = cell("context\nFINAL(llm_query('?'))")
    run = prepare(tmp_path, [code], sub=lambda prompt: sub(prompt), seconds=40)
    await asyncio.wait_for(run.run.start(), 50)
    assert (run.end.status, run.answer) == ("done", "42")
    assert left == [pytest.approx(3_600, abs=60), pytest.approx(7_200, abs=60)]


async def test_a_raised_limit_of_tokens_and_of_subcalls_makes_room(tmp_path: Path) -> None:
    more = (LimitOverrides(tokens=900_000, subcalls=2), cell("print(llm_query_batched(['', '']))"))
    run = await play_changing(
        tmp_path, [cell("1"), more, final()], tokens=2 * ANSWER_TOKENS, subcalls=0
    )
    assert run.end.status == "done"
    assert "['sub-answer', 'sub-answer']" in run.told(2)


async def test_a_lowered_limit_of_tokens_ends_the_run_before_the_next_call(tmp_path: Path) -> None:
    fewer = (LimitOverrides(tokens=100), cell('answer["content"] = "so far"'))
    run = await play_changing(tmp_path, [cell("1"), fewer, final()])
    assert (run.end.status, run.answer) == ("limit", "so far")
    assert "limit of 100 tokens" in run.end.reason


async def test_the_model_and_the_person_are_told_once_that_a_limit_is_near(tmp_path: Path) -> None:
    code = cell("llm_query_batched(['x'] * 4)")
    run = await play(tmp_path, [code, code, cell("1"), final()], subcalls=10)
    assert "near" not in run.told(1)
    assert "8 of 10 sub-calls are made" in run.told(2)
    assert "near" not in run.told(3)
    assert [e.level for e in run.of(Notice) if "8 of 10" in e.text] == ["warning"]


async def test_a_limit_that_was_raised_is_told_again_when_it_is_near_again(tmp_path: Path) -> None:
    code = cell("llm_query_batched(['x'] * 4)")
    more = (LimitOverrides(subcalls=15), code)
    run = await play_changing(tmp_path, [code, more, code, final()], subcalls=5)
    assert "4 of 5 sub-calls" in run.told(1)
    assert "near" not in run.told(2)
    assert "12 of 15 sub-calls" in run.told(3)


async def test_the_model_is_told_before_money_stops_it(tmp_path: Path) -> None:
    replies = [cell(f'answer["content"] = "{number}"') for number in range(30)]
    prices = {"root": (0.0, 10.0)}
    run = await play(tmp_path, replies, prices=prices, cost=0.0824, iterations=30)
    assert run.end.status == "limit"
    told = [prompt[-1]["content"] for prompt in run.models.prompts]
    warned = [number for number, text in enumerate(told) if "of $0.08 are spent" in text]
    assert len(warned) == 1
    assert run.answer == str(len(told) - 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_runs_against_the_limit_as_it_is_now() -> None:
    clock = Clock()
    ledger = Ledger(Limits(seconds=100), clock)
    nearing = Nearing(ledger)
    clock.now = 79.0
    assert nearing.due() == []
    clock.now = 80.0
    assert [near.text for near in nearing.due()] == ["80 of 100 seconds are over."]
    assert nearing.due() == []
    clock.now = 101.0
    with pytest.raises(LimitReached, match="100 s"):
        ledger.check_time()
    ledger.limits = Limits(seconds=1_000)
    ledger.check_time()
    assert ledger.seconds_left == 899.0
    assert nearing.due() == []


def test_only_the_first_of_several_loops_tells_the_person() -> None:
    ledger = Ledger(Limits(tokens=10_000))
    ledger.settle(
        ledger.reserve("0.1", ["x"], Price(0.0, 0.0), subcall=True), Usage(completion_tokens=9_000)
    )
    assert [[near.first for near in Nearing(ledger).due()] for _ in range(2)] == [[True], [False]]


def test_the_last_but_one_reply_is_warned_also_below_the_share() -> None:
    ledger = Ledger(Limits(tokens=3 * ANSWER_TOKENS))
    ledger.settle(
        ledger.reserve("0.1", ["x"], Price(0.0, 0.0), subcall=False),
        Usage(completion_tokens=ANSWER_TOKENS + 10),
    )
    [near] = Nearing(ledger).due()
    assert "tokens are used" in near.text


def test_a_cost_limit_that_is_set_meanwhile_knows_the_calls_in_flight() -> None:
    ledger = Ledger(Limits())
    dear = Price(0.0, 1_000_000 / ANSWER_TOKENS)
    ledger.reserve("0.1", ["x"], dear, subcall=False)
    ledger.limits = Limits(cost=1.5)
    with pytest.raises(LimitReached, match="set aside"):
        ledger.reserve("0.1", ["x"], dear, subcall=False)
