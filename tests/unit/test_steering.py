"""What a person does to a run while it goes on: approval, pause, notes, variables, code."""

import asyncio
import time
from pathlib import Path

import pytest

from engine_harness import cell, final, played
from rlm_server.config import Config
from rlm_server.engine.steering import Decision
from rlm_server.errors import BusyError, EndedError
from rlm_server.protocol import (
    ApprovalWanted,
    CellDone,
    CellStarted,
    ChildDone,
    ChildStarted,
    IterationStarted,
    Note,
    Notice,
    Output,
    Paused,
    SubcallDone,
    SubcallStarted,
)

APPROVE = Decision("approve")


async def wanted(run, node: str = "0.1", cell: int = 1) -> ApprovalWanted:
    return await run.event(ApprovalWanted, node=node, cell=cell)


# ------------------------------------------------------------------------------------- approval


async def test_a_cell_waits_for_approval_and_runs(tmp_path: Path) -> None:
    async with played(tmp_path, [final()], approve=True) as run:
        event = await wanted(run)
        assert 'answer["ready"] = True' in event.code
        assert not run.of(CellStarted)
        assert run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        assert (await run.ended()).status == "done"
        assert not run.run.steering.decide("0.1", 1, APPROVE, rest=False)


async def test_edited_code_is_what_runs_and_the_model_is_told(tmp_path: Path) -> None:
    replies = [cell("context\nx = 'theirs'"), final("x")]
    async with played(tmp_path, replies, approve=True) as run:
        await wanted(run)
        edit = Decision("edit", code="context\nx = 'mine'\n")
        run.run.steering.decide("0.1", 1, edit, rest=True)
        await run.ended()
        assert run.answer == "mine"
        assert "x = 'mine'" in run.told(1)
        assert "edited the first block" in run.told(1)
        first, second = run.of(CellStarted)
        assert (first.edited, first.code) == (True, edit.code)
        assert not second.edited


async def test_a_rejected_cell_does_not_run_nor_those_after_it(tmp_path: Path) -> None:
    replies = [cell("x = 1") + cell("y = 2") + cell("z = 3"), cell("print(dir())"), final()]
    async with played(tmp_path, replies, approve=True) as run:
        await wanted(run)
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        await wanted(run, cell=2)
        run.run.steering.decide("0.1", 2, Decision("reject", reason="too dear"), rest=True)
        await run.ended()
        assert run.end.status == "done"
        told = run.told(1)
        assert "Output of cell 1" in told
        assert "The second block of your reply did not run" in told
        assert "Their reason: too dear. Go on" in told
        assert "those after the second did not run" in told
        assert "'x'" in run.told(2)
        assert "'y'" not in run.told(2)
        rejected = [e for e in run.of(CellDone) if e.status == "rejected"]
        assert [(e.cell, e.error) for e in rejected] == [(2, "too dear")]


async def test_cancel_works_while_a_cell_waits(tmp_path: Path) -> None:
    async with played(tmp_path, [final()], approve=True) as run:
        await wanted(run)
        run.run.cancel(None)
        assert (await run.ended()).status == "cancelled"
        assert not run.of(CellStarted)


async def test_waiting_for_a_person_takes_none_of_the_runs_time(tmp_path: Path) -> None:
    async with played(tmp_path, [final()], approve=True, seconds=30) as run:
        await wanted(run)
        timer, clock = run.run._timer, run.run.steering.clock
        left = run.run._ledger.seconds_left
        assert timer
        assert timer.when() is None  # nothing ends it, however long this takes
        clock._now = lambda: time.monotonic() + 3600.0
        assert run.run._ledger.seconds_left == left
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        assert (await run.ended()).status == "done"
        assert run.end.seconds < 3600


async def test_cells_of_child_runs_wait_too_and_their_callers_with_them(tmp_path: Path) -> None:
    ask = cell("print(rlm_query_batched(['a?', 'b?']))")
    replies = [ask, final("'child'"), final("'child'"), final()]
    config = Config(max_depth=2, depth_models=["root"])
    async with played(tmp_path, replies, config=config, approve=True) as run:
        await wanted(run)
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        for node in ("0.1.1.1", "0.1.2.1"):
            await wanted(run, node)
        # The cell that waits for its children has no time-out meanwhile, and one again after it.
        loop = run.run._loop
        assert loop
        assert loop.repl._cell._deadline is None
        run.run.steering.decide("0.1.2.1", 1, APPROVE, rest=True)
        await run.ended()
        assert "['child', 'child']" in run.told(3)
        assert len(run.of(ApprovalWanted)) == 3


async def test_a_child_that_waits_can_be_cancelled_alone(tmp_path: Path) -> None:
    ask = cell("try:\n    rlm_query('a?', 'one')\nexcept SubcallError as e:\n    print('no:', e)")
    config = Config(max_depth=2, depth_models=["root"])
    replies = [ask, final("'child'"), final()]
    async with played(tmp_path, replies, config=config, approve=True) as run:
        await wanted(run)
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        await wanted(run, "0.1.1.1")
        assert run.run.cancel("0.1.1")
        await wanted(run, "0.2")
        run.run.steering.decide("0.2", 1, APPROVE, rest=False)
        await run.ended()
        assert run.of(ChildDone)[0].status == "cancelled"
        assert "no:" in run.told(2)


# ---------------------------------------------------------------------------------------- pause


async def test_a_paused_run_begins_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    code = "print('begun')\nprint(llm_query('one'))\nprint(llm_query('two'))"
    flowing = asyncio.Event()

    async def sub(prompt: str) -> str:
        if prompt == "one":
            await flowing.wait()
        return f"<{prompt}>"

    replies = [cell(code), final()]
    async with played(tmp_path, replies, sub=sub, seconds=60) as run:
        await run.event(SubcallStarted)
        run.run.steering.pause(True)
        run.run.steering.pause(True)  # says nothing more
        flowing.set()
        done = await run.event(SubcallDone)  # what was in flight comes to its end
        assert done.answer == "<one>"
        left = run.run._ledger.seconds_left
        await run.event(Output, text="<one>\n")
        assert len(run.of(SubcallStarted)) == 1
        assert run.run._ledger.seconds_left == left
        run.run.steering.pause(False)
        await run.ended()
        assert "<two>" in run.told(1)
        assert [e.paused for e in run.of(Paused)] == [True, False]


async def test_no_model_is_asked_while_a_run_is_paused(tmp_path: Path) -> None:
    async with played(tmp_path, [cell("print('on')\nwhile True: pass"), final()]) as run:
        await run.event(Output)
        run.run.steering.pause(True)
        run.run.cancel("0.1")
        await run.event(CellDone)
        assert len(run.models.prompts) == 1
        run.run.steering.pause(False)
        assert (await run.ended()).status == "done"


async def test_a_paused_run_can_be_cancelled(tmp_path: Path) -> None:
    async with played(tmp_path, [cell("1"), final()], approve=True) as run:
        await wanted(run)
        run.run.steering.pause(True)
        run.run.steering.decide("0.1", 1, APPROVE, rest=True)
        await run.event(CellDone)
        run.run.cancel(None)
        assert (await run.ended()).status == "cancelled"
        assert run.of(Paused)[-1].paused is False
        await run.ask_on("And now?")
        assert run.end.status == "done"


# ---------------------------------------------------------------------------------------- notes


async def test_a_note_is_told_once_with_the_next_message(tmp_path: Path) -> None:
    replies = [cell("context\nprint('one')"), cell("print('two')"), final()]
    async with played(tmp_path, replies, approve=True) as run:
        await wanted(run)
        run.run.note("0", "Look at gamma.")
        run.run.steering.decide("0.1", 1, APPROVE, rest=True)
        await run.ended()
        assert [e.text for e in run.of(Note)] == ["Look at gamma."]
        assert run.told(1).startswith("Output of cell 1")
        assert run.told(1).endswith("The person who asked adds: Look at gamma.")
        assert "gamma" not in run.told(2)
        # It stays in the conversation that the model sees.
        assert "Look at gamma." in run.models.prompts[2][3]["content"]


async def test_a_note_before_the_first_reply_goes_with_the_question(tmp_path: Path) -> None:
    async with played(tmp_path, [final()]) as run:
        run.run.note("0", "In Greek, please.")
        await run.ended()
        assert "In Greek, please." in run.told(0)


async def test_a_note_that_comes_too_late_is_said_to_and_goes_with_the_next_question(
    tmp_path: Path,
) -> None:
    async with played(tmp_path, [final(), final("'2'")], approve=True) as run:
        await wanted(run)
        run.run.note("0", "Too late.")
        run.run.steering.decide("0.1", 1, APPROVE, rest=True)
        await run.ended()
        assert "follow-up question takes it along" in run.of(Notice)[-1].text
        await run.ask_on("More?")
        assert "Too late." in run.told(1)


async def test_a_note_to_a_child_run(tmp_path: Path) -> None:
    replies = [cell("context\nprint(rlm_query('a?', 'one'))"), cell("1"), final("'c'"), final()]
    async with played(
        tmp_path, replies, config=Config(max_depth=2, depth_models=["root"]), approve=True
    ) as run:
        await wanted(run)
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        await wanted(run, "0.1.1.1")
        run.run.note("0.1.1", "For the child.")
        with pytest.raises(EndedError):
            run.run.note("0.1.2", "For nobody.")
        run.run.steering.decide("0.1.1.1", 1, APPROVE, rest=True)
        await run.ended()
        assert "For the child." in run.told(2)
        assert "For the child." not in run.told(3)


# ------------------------------------------------------------------------ variables and own code


async def test_variables_are_shown_between_cells_and_not_while_one_runs(tmp_path: Path) -> None:
    replies = [cell("x = 1"), cell("print('on')\nwhile True: pass"), final()]
    async with played(tmp_path, replies, approve=True) as run:
        await wanted(run)
        listed = await run.run.namespace().variables()
        assert [v.name for v in listed.variables] == ["answer"]
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        await wanted(run, "0.2")
        listed = await run.run.namespace().variables()
        assert {v.name for v in listed.variables} == {"answer", "x"}
        run.run.steering.decide("0.2", 1, APPROVE, rest=True)
        await run.event(Output)
        with pytest.raises(BusyError, match="is running"):
            await run.run.namespace().variables()
        with pytest.raises(BusyError, match="is running"):
            await run.run.execute("0", "1")
        run.run.cancel("0.2")
        await run.ended()


async def test_there_are_no_variables_before_the_repl_or_in_a_child_that_is_not(
    tmp_path: Path,
) -> None:
    async with played(tmp_path, [final()]) as run:
        with pytest.raises(BusyError, match="no REPL"):
            run.run.namespace()
        await run.ended()
        with pytest.raises(BusyError, match=r"no REPL at '0\.1\.1'"):
            run.run.namespace("0.1.1")


async def test_the_users_own_code_in_mid_run_also_in_a_child(tmp_path: Path) -> None:
    ask = cell("context\nprint(rlm_query('a?', 'one'))")
    replies = [ask, cell("y = 1"), final("str(y)"), final()]
    async with played(
        tmp_path, replies, config=Config(max_depth=2, depth_models=["root"]), approve=True
    ) as run:
        await wanted(run)
        result = await run.run.execute("0", "print(llm_query('hm?'))")
        assert (result.node, result.output) == ("0.x1", "sub-answer\n")
        assert run.of(SubcallStarted)[0].node == "0.x1.1"
        run.run.steering.decide("0.1", 1, APPROVE, rest=False)
        await run.event(ChildStarted)
        await wanted(run, "0.1.1.1")
        run.run.steering.decide("0.1.1.1", 1, APPROVE, rest=False)
        await wanted(run, "0.1.1.2")
        result = await run.run.execute("0.1.1", "y += 41")
        assert result.node == "0.1.1.x1"
        run.run.steering.decide("0.1.1.2", 1, APPROVE, rest=True)
        await run.ended()
        assert "42" in run.told(3)
        assert "llm_query('hm?')" in run.told(3)


async def test_the_users_own_calls_go_on_while_a_run_is_paused(tmp_path: Path) -> None:
    async with played(tmp_path, [final()], approve=True) as run:
        await wanted(run)
        run.run.steering.pause(True)
        result = await run.run.execute("0", "print(llm_query('hm?'))")
        assert result.output == "sub-answer\n"
        assert not run.of(IterationStarted)[1:]
