"""Further questions to a run that rests: namespace, conversation, limits, log, room."""

import asyncio
from pathlib import Path

import pytest

from engine_harness import Played, cell, final, played, prepare
from rlm_server.config import Config, SandboxConfig
from rlm_server.engine.resting import Resting
from rlm_server.errors import BusyError, LogError, SandboxError, TransientError, UnknownModelError
from rlm_server.protocol import (
    Answer,
    AskOptions,
    CellDone,
    CellStarted,
    ExecResult,
    FollowUp,
    FollowUpOptions,
    IterationStarted,
    LimitOverrides,
    LimitsChanged,
    Output,
    Progress,
    RunEnded,
)
from rlm_server.runs.log import in_use
from rlm_server.runs.summary import summarise


async def test_variables_and_conversation_go_on(tmp_path: Path) -> None:
    first = cell('found = context.split()\nanswer["content"] = "three"\nanswer["ready"] = True')
    async with played(tmp_path, [first, final("found[1]")]) as run:
        await run.ended()
        await run.ask_on("Which is the second?")
        assert [e.text for e in run.of(Answer)] == ["three", "beta"]
        told = run.told(1)
        assert "A further question: Which is the second?" in told
        assert "Question: What is in it?\nAnswer: three" in told
        assert "found: list, 3 long" in told
        # The whole conversation is there, and nothing of it was written anew.
        assert run.models.prompts[1][:2] == run.models.prompts[0][:2]
        assert run.models.prompts[1][2]["content"] == first


async def test_numbers_of_events_and_iterations_go_on_in_one_log(tmp_path: Path) -> None:
    async with played(tmp_path, [cell("context"), final(), cell("1"), final("'b'")]) as run:
        await run.ended()
        seq = run.run.next_seq
        await run.ask_on("And then?")
        assert [e.seq for e in run.events] == list(range(len(run.events)))
        assert [e.iteration for e in run.of(IterationStarted)] == [1, 2, 3, 4]
        assert run.of(FollowUp)[0].seq == seq
        assert [e.iterations for e in run.of(RunEnded)] == [2, 4]
        assert isinstance(run.events[-1], RunEnded)
        assert run.end.seconds >= run.of(RunEnded)[0].seconds


async def test_an_answer_that_is_ready_does_not_answer_the_next_question(tmp_path: Path) -> None:
    async with played(tmp_path, [final('"old"'), cell("print(answer)"), final('"new"')]) as run:
        await run.ended()
        await run.ask_on("Something else?")
        assert run.end.iterations == 3
        assert "{'content': '', 'ready': False}" in run.told(2)
        assert run.of(Answer)[-1].text == "new"


async def test_each_question_has_limits_of_its_own_on_one_ledger(tmp_path: Path) -> None:
    calls = cell('llm_query("a"); llm_query("b")\nprint("both")')
    price = {"root": (1000.0, 1000.0), "sub": (1000.0, 1000.0)}
    replies = [calls, final(), calls, final("'2'")]
    async with played(tmp_path, replies, subcalls=2, iterations=2, prices=price, cost=30.0) as run:
        first = await run.ended()
        await run.ask_on("Again?")
        assert run.end.status == "done"
        assert "both" in run.told(3)
        assert (first.subcalls, run.end.subcalls) == (2, 4)
        assert first.usage.cost
        assert run.end.usage.cost == pytest.approx(2 * first.usage.cost, rel=0.1)


async def test_a_further_question_may_have_other_limits_and_models(tmp_path: Path) -> None:
    async with played(tmp_path, [final(), cell("1"), cell("2")]) as run:
        await run.ended()
        with pytest.raises(UnknownModelError):
            await run.ask_on("?", root_model="none such")
        assert run.run.ended
        await run.ask_on("?", limits=LimitOverrides(iterations=1), sub_model="root")
        assert (run.end.status, run.end.iterations) == ("limit", 2)
        assert "1 iteration " in run.end.reason
        assert run.of(FollowUp)[0].limits.iterations == 1
        assert run.of(FollowUp)[0].sub_model == "root"


async def test_limits_may_change_before_the_first_step_of_a_further_question(
    tmp_path: Path,
) -> None:
    async with played(tmp_path, [final(), cell("1"), cell("2")]) as run:
        await run.ended()
        task = run.run.follow_up("Again?", FollowUpOptions())
        assert run.run.set_limits(LimitOverrides(iterations=1))
        await asyncio.wait_for(task, 50)
        assert (run.end.status, run.end.iterations) == ("limit", 2)
        assert run.of(LimitsChanged)[0].limits.iterations == 1
        assert not run.run.set_limits(LimitOverrides(iterations=9))


async def test_a_further_question_may_want_a_typed_answer(tmp_path: Path) -> None:
    replies = [final(), final("'many'"), final("3"), final("'a text'")]
    async with played(tmp_path, replies) as run:
        await run.ended()
        await run.ask_on("How many?", schema={"type": "integer"})
        assert run.of(Answer)[-1].value == 3
        assert '{"type": "integer"}' in run.told(1).replace("'", '"')
        await run.ask_on("And in words?")
        assert run.of(Answer)[-1].text == "a text"


async def test_a_direct_answer_is_asked_further_with_code(tmp_path: Path) -> None:
    options = AskOptions(direct=True)
    async with played(tmp_path, ["Three words.", final("context[:5]")], options=options) as run:
        assert (await run.ended()).status == "done"
        with pytest.raises(BusyError):
            run.run.namespace()
        await run.ask_on("What is the first?")
        assert run.of(Answer)[-1].text == "alpha"
        assert "Answer: Three words." in run.told(1)
        assert [e.iteration for e in run.of(IterationStarted)] == [1, 2]


async def test_a_run_that_failed_goes_on(tmp_path: Path) -> None:
    replies = [cell("x = 5"), TransientError("gone"), final("str(x)")]
    async with played(tmp_path, replies) as run:
        assert (await run.ended()).status == "failed"
        await run.ask_on("Try again")
        assert (run.end.status, run.of(Answer)[-1].text) == ("done", "5")
        assert "Answer: gone" in run.told(2)


async def test_a_run_that_was_cancelled_in_mid_cell_goes_on(tmp_path: Path) -> None:
    replies = [cell("x = 5"), cell("print('begun')\nwhile True: pass"), final("str(x)")]
    async with played(tmp_path, replies) as run:
        await run.event(Output, node="0.2")
        run.run.cancel(None)
        assert (await run.ended()).status == "cancelled"
        await run.ask_on("What are they?")
        assert run.end.status == "done"
        assert "x: int" in run.told(2)


async def test_a_run_whose_model_never_answered_goes_on(tmp_path: Path) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async with played(tmp_path, [lambda _: never(), final()]) as run:
        await run.event(IterationStarted)
        run.run.cancel(None)
        assert (await run.ended()).status == "cancelled"
        assert not run.of(Answer)
        await run.ask_on("Now?")
        assert run.end.status == "done"
        # Two messages of the user in a row are one.
        assert [m["role"] for m in run.models.prompts[1]] == ["system", "user"]


async def test_nothing_can_be_asked_of_a_run_without_a_context(tmp_path: Path) -> None:
    run = prepare(tmp_path, [], sources=[], rest=True)
    await run.run.start()
    assert run.end.status == "failed"
    assert not run.run.rests
    assert run.run.log.closed


async def test_a_summary_tells_of_the_last_question(tmp_path: Path) -> None:
    async with played(tmp_path, [final(), cell("1")]) as run:
        await run.ended()
        path = run.run.log.path
        assert summarise(path, live=False).status == "done"
        task = run.run.follow_up("?", _options(iterations=1))
        assert summarise(path, live=True).status == "running"
        # What a server that was killed here would leave behind:
        assert summarise(path, live=False).status == "interrupted"
        await task
        summary = summarise(path, live=False)
        assert (summary.status, summary.iterations, summary.question) == (
            "limit", 2, "What is in it?",
        )  # fmt: skip


def _options(**limits: int) -> FollowUpOptions:
    return FollowUpOptions(limits=LimitOverrides(**limits))


# --------------------------------------------------------------------------- the user's own code


async def test_code_of_the_users_own_runs_in_the_namespace_and_is_told(tmp_path: Path) -> None:
    async with played(tmp_path, [cell("context\nx = 1\nFINAL(x)"), final("str(x)")]) as run:
        await run.ended()
        result = await run.run.execute("0", "x += 41\nprint('now', x)")
        assert (result.status, result.output, result.node) == ("ok", "now 42\n", "0.x1")
        started = run.of(CellStarted)[-1]
        assert (started.node, started.by_user) == ("0.x1", True)
        await run.ask_on("What is x?")
        assert run.of(Answer)[-1].text == "42"
        assert "x += 41" in run.told(1)
        assert "now 42" in run.told(1)


async def test_what_the_users_code_costs_is_on_the_ledger(tmp_path: Path) -> None:
    prices = {"root": (0.0, 0.0), "sub": (1000.0, 1000.0)}
    async with played(tmp_path, [final()], prices=prices) as run:
        first = await run.ended()
        result = await run.run.execute("0", "print(llm_query('well?'))")
        assert result.output == "sub-answer\n"
        assert run.end.usage.cost > first.usage.cost == 0.0
        assert (run.end.status, run.end.subcalls) == ("done", 1)
        assert run.of(Progress)[-1].subcalls_done == 1
        assert summarise(run.run.log.path, live=False).cost == run.end.usage.cost


async def test_the_users_code_can_be_stopped(tmp_path: Path) -> None:
    async with played(tmp_path, [cell("context\nx = 1\nFINAL(x)")]) as run:
        await run.ended()
        task = asyncio.create_task(run.run.execute("0", "print('on')\nwhile True: pass"))
        await run.event(CellStarted, node="0.x1")
        assert run.run.cancel("0.x1")
        assert (await task).status == "cancelled"
        assert (await run.run.execute("0", "print(x)")).output == "1\n"


async def test_a_client_that_goes_away_in_mid_cell_takes_no_variables_along(
    tmp_path: Path,
) -> None:
    async with played(tmp_path, [cell("context\nx = 1\nFINAL(x)")]) as run:
        await run.ended()
        task = asyncio.create_task(run.run.execute("0", "while True: pass"))
        await run.event(CellStarted, node="0.x1")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert run.of(CellDone)[-1].status == "cancelled"
        assert (await run.run.namespace().inspect("x", 0, 10)).text == "1"


@pytest.mark.parametrize("others", [0, 1])
async def test_the_log_is_let_go_whatever_becomes_of_the_users_code(
    tmp_path: Path, others: int
) -> None:
    async with played(tmp_path, [cell("context\nx = 1\nFINAL(x)")]) as run:
        await run.ended()
        path, ends = run.run.log.path, len(run.of(RunEnded))
        assert not in_use(path)
        task = asyncio.create_task(run.run.execute("0", "while True: pass"))
        await run.event(CellStarted, node="0.x1")
        assert in_use(path)
        for _ in range(others):
            with pytest.raises(BusyError):
                await run.run.execute("0", "x")
            assert in_use(path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not in_use(path)
        assert len(run.of(RunEnded)) == ends + 1
        assert isinstance(run.events[-1], RunEnded)


async def test_a_run_that_is_closed_in_mid_cell_leaves_other_files_alone(tmp_path: Path) -> None:
    async with played(tmp_path, [cell("context\nx = 1\nFINAL(x)")]) as run:
        await run.ended()
        task = asyncio.create_task(run.run.execute("0", "while True: pass"))
        await run.event(CellStarted, node="0.x1")
        await run.run.close()
        await asyncio.wait({task}, timeout=50)
        assert isinstance(task.exception() or task.result(), SandboxError | ExecResult)
        with pytest.raises(LogError, match="another server"):
            run.run.log.claim()
        run.run.log.release()


# ------------------------------------------------------------------------------- the room for them


def room(**settings: float) -> Resting:
    return Resting(SandboxConfig(**settings))


async def rested(directory: Path, name: str, room: Resting, code: str = "context") -> Played:
    """A run that has ended and was given to the room."""
    (directory / name).mkdir()
    run = prepare(directory / name, [cell(f"{code}\nFINAL('done')")], rest=True)
    run.run.run_id = name
    await run.run.start()
    assert run.run.rests
    room.add(run.run)
    return run


async def test_the_one_used_longest_ago_makes_room(tmp_path: Path) -> None:
    kept = room(resting=2)
    runs = {name: await rested(tmp_path, name, kept) for name in ("a", "b")}
    assert kept.get("a") is runs["a"].run
    runs["c"] = await rested(tmp_path, "c", kept)
    assert [run.run_id for run in kept] == ["a", "c"]
    await kept.close()
    assert all(run.run.log.closed for run in runs.values())
    assert not any((tmp_path / name / "context").exists() for name in runs)


async def test_memory_is_counted_and_bounded(tmp_path: Path) -> None:
    kept = room(resting=10, rest_bytes=60 << 20)
    small = await rested(tmp_path, "small", kept)
    large = await rested(tmp_path, "large", kept, "context\nheld = bytearray(80 << 20)")
    async with asyncio.timeout(60):
        while not large.run.log.closed:
            await large.run.log.grown(large.run.log.size)
    assert small.run.log.closed
    assert not list(kept)
    await kept.close()


async def test_time_is_bounded(tmp_path: Path) -> None:
    kept = room(rest_seconds=0.05)
    run = await rested(tmp_path, "a", kept)
    async with asyncio.timeout(60):
        await run.run.log.grown(run.run.log.size)
    assert run.run.log.closed
    assert kept.get("a") is None
    await kept.close()


async def test_a_run_that_goes_on_is_not_in_the_room(tmp_path: Path) -> None:
    kept = room()
    run = await rested(tmp_path, "a", kept)
    assert kept.take("a") is run.run
    await kept.close()
    assert not run.run.log.closed
    await run.run.close()


async def test_none_rest_where_that_is_configured(tmp_path: Path) -> None:
    run = prepare(tmp_path, [final()], config=Config())
    await run.run.start()
    assert not run.run.rests
    assert run.run.log.closed
