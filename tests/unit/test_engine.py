"""The engine's rules, each through a real REPL: answers, feedback, limits, cancelling, costs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine_harness import cell, final, play, prepare
from rlm_server.engine.ledger import ANSWER_TOKENS
from rlm_server.errors import LogError, RefusedError, TransientError
from rlm_server.models import Completion
from rlm_server.protocol import (
    Answer,
    CellDone,
    FileSource,
    Notice,
    Output,
    ReplyDelta,
    SubcallDone,
    SubcallStarted,
    TextSource,
    TreeSource,
)


async def test_the_answer_comes_from_executed_code(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("print(context[:5])"), final()])
    assert (run.end.status, run.answer, run.end.iterations) == ("done", "42", 2)
    assert "alpha" in run.told(1)
    assert not (tmp_path / "context").exists()


@pytest.mark.parametrize(
    "code",
    [
        'answer["ready"] = True\nanswer["content"] = "42"',
        'answer.update(content="42", ready=True)',
        'answer = {"content": "42", "ready": True}',
        "FINAL(42)",
        'x = "42"\nFINAL_VAR("x")',
        'def f():\n    FINAL("42")\nf()',
        'answer["content"] = 42\nanswer["ready"] = 1',
        'FINAL("42")\nraise ValueError("after the answer")',
    ],
)
async def test_every_spelling_of_an_answer_counts(tmp_path: Path, code: str) -> None:
    run = await play(tmp_path, [cell("len(context)"), cell(code)])
    assert (run.end.status, run.answer) == ("done", "42")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ('The answer is FINAL("42").', "no code block"),
        ("```json\n{}\n```", "```json"),
        ("", "no code block"),
        (cell('FINAL_VAR("missing")'), "missing"),
        (cell("print(1"), "line 1"),
        (cell("import sys\nsys.exit()"), "SystemExit"),
        (cell("x = 1\n1/0"), "line 2"),
    ],
)
async def test_what_is_no_answer_gets_feedback(tmp_path: Path, reply: str, told: str) -> None:
    run = await play(tmp_path, [reply, final()])
    assert run.answer == "42"
    assert told in run.told(1)


async def test_names_bound_before_an_exception_stay(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("x = 40\n1/0"), final("str(x + 2)")])
    assert run.answer == "42"


async def test_a_first_answer_that_read_nothing_is_refused_once(tmp_path: Path) -> None:
    unread = cell('FINAL("42")')
    run = await play(tmp_path, [unread, unread])
    assert (run.end.iterations, run.answer) == (2, "42")
    assert "without reading" in run.told(1)


async def test_blocks_run_in_order_until_the_answer(tmp_path: Path) -> None:
    reply = cell("x = len(context) and 1") + cell('FINAL("42")') + cell("print('not run')")
    run = await play(tmp_path, [reply])
    assert run.answer == "42"
    assert [event.cell for event in run.of(CellDone)] == [1, 2]


async def test_blocks_after_a_failing_one_do_not_run_and_that_is_said(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("1/0") + cell("print('not run')"), final()])
    assert "after the first did not run" in run.told(1)


async def test_the_limit_of_iterations_gives_the_best_answer_so_far(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell('answer["content"] = "so far"')] * 3, iterations=3)
    assert (run.end.status, run.answer, run.end.iterations) == ("limit", "so far", 3)
    assert run.of(Answer)[-1].partial
    assert "3 iterations" in run.end.reason
    assert "1 reply left" in run.told(2)


async def test_an_answer_in_the_last_iteration_wins_over_the_limit(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("len(context)"), final()], iterations=2)
    assert (run.end.status, run.answer) == ("done", "42")


async def test_without_an_answer_the_last_prose_is_the_best(tmp_path: Path) -> None:
    run = await play(tmp_path, ["I think it is Greek."], iterations=1)
    assert (run.end.status, run.answer) == ("limit", "I think it is Greek.")


async def test_the_time_limit_stops_a_running_cell(tmp_path: Path) -> None:
    reply = cell('answer["content"] = "partial"') + cell("while True: pass")
    run = await play(tmp_path, [reply], seconds=1.0)
    assert (run.end.status, run.answer) == ("limit", "partial")


async def test_a_cell_time_out_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("while True: pass"), final()], cell_seconds=0.2)
    assert (run.end.status, run.answer) == ("done", "42")
    assert run.of(CellDone)[0].status == "timeout"
    assert "0.2 seconds" in run.told(1)


async def test_subcalls_are_told_with_prompt_and_answer(tmp_path: Path) -> None:
    code = 'r = llm_query("one?")\nprint(r.upper(), llm_query_batched(["two?", "three?"]))'
    run = await play(tmp_path, [cell(code), final()], sub=lambda prompt: f"<{prompt}>")
    assert "<ONE?> ['<two?>', '<three?>']" in run.told(1)
    assert [e.prompt for e in run.of(SubcallStarted)] == ["one?", "two?", "three?"]
    assert [e.node for e in run.of(SubcallStarted)] == ["0.1.1", "0.1.2", "0.1.3"]
    assert {e.answer for e in run.of(SubcallDone)} == {"<one?>", "<two?>", "<three?>"}
    assert run.end.subcalls == 3


async def test_a_failing_subcall_raises_alone_and_takes_its_place_in_a_batch(
    tmp_path: Path,
) -> None:
    def sub(prompt: str) -> str | Exception:
        return RefusedError("refused by the provider") if "bad" in prompt else "fine"

    code = 'print(llm_query_batched(["bad", "good"]))\nllm_query("bad")'
    run = await play(tmp_path, [cell(code), final()], sub=sub)
    assert "refused by the provider" in run.told(1)
    assert "'fine']" in run.told(1)
    assert run.of(CellDone)[0].status == "error"
    assert [e.status for e in run.of(SubcallDone)].count("error") == 2


async def test_the_limit_of_subcalls_is_an_error_in_the_cell(tmp_path: Path) -> None:
    code = 'llm_query("1")\ntry:\n    llm_query("2")\nexcept Exception as e:\n    print("no:", e)'
    run = await play(tmp_path, [cell(code), final()], subcalls=1)
    assert "1 sub-calls" in run.told(1)
    assert run.end.status == "done"


async def test_a_token_limit_ends_the_run_before_the_call(tmp_path: Path) -> None:
    enough_for_one = 5_000 // 4 + ANSWER_TOKENS
    cells = [cell('answer["content"] = "early"')] * 9
    run = await play(tmp_path, cells, tokens=enough_for_one)
    assert (run.end.status, run.answer) == ("limit", "early")
    assert "tokens" in run.end.reason


async def test_costs_add_up_over_root_and_subcalls(tmp_path: Path) -> None:
    run = await play(
        tmp_path,
        [cell('llm_query_batched(["a", "b"])'), final()],
        prices={"root": (2.0, 0.0), "sub": (1.0, 0.0)},
    )
    assert run.end.usage.cost == pytest.approx((2 * 10 * 2.0 + 2 * 10 * 1.0) / 1e6)


async def test_an_unknown_price_is_said_to_be_unknown(tmp_path: Path) -> None:
    run = await play(tmp_path, [final()], prices={"root": (None, None)})
    assert run.end.usage.cost is None


async def test_a_model_that_fails_ends_the_run_with_what_there_is(tmp_path: Path) -> None:
    replies = [cell('answer["content"] = "so far"'), TransientError("the server is down")]
    run = await play(tmp_path, replies)
    assert (run.end.status, run.answer) == ("failed", "so far")
    assert run.end.error.kind == "transient"


async def test_cancelling_in_mid_cell_ends_the_run_with_what_there_is(tmp_path: Path) -> None:
    replies = [cell('answer["content"] = "so far"'), cell("print('busy')\nwhile True: pass")]
    run = prepare(tmp_path, replies)
    task = run.run.start()
    async with asyncio.timeout(60):
        while not any("busy" in e.text for e in run.of(Output)):
            await run.run.log.grown(run.run.log.size)
    assert run.run.cancel(None)
    assert not run.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert (run.end.status, run.answer) == ("cancelled", "so far")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell gets as long to end when it is interrupted as a busy machine may take."""
    monkeypatch.setattr("rlm_server.sandbox.cell.GRACE_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
async def test_an_answer_set_in_the_cancelled_cell_is_not_lost(tmp_path: Path) -> None:
    code = 'answer["content"] = "just set"\nprint("busy")\nwhile True: pass'
    run = prepare(tmp_path, [cell(code)])
    task = run.run.start()
    async with asyncio.timeout(60):
        while not run.of(Output):
            await run.run.log.grown(run.run.log.size)
    run.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert (run.end.status, run.answer) == ("cancelled", "just set")
    assert run.of(CellDone)[-1].status == "cancelled"


@pytest.mark.usefixtures("patient")
async def test_an_answer_set_in_the_cell_that_takes_too_long_is_not_lost(tmp_path: Path) -> None:
    code = 'answer["content"] = "just set"\nwhile True: pass'
    run = await play(tmp_path, [cell(code)], seconds=3.0)
    assert (run.end.status, run.answer) == ("limit", "just set")


async def test_paths_with_blanks_and_brackets_are_evidence_too(tmp_path: Path) -> None:
    sources = [
        TextSource(text="one\ntwo\n", name="my notes (old).txt"),
        TextSource(text="three\n", name="plain.txt"),
    ]
    answer = """'It stands in my notes (old).txt:2, and in "plain.txt:1".'"""
    run = await play(tmp_path, [final(answer)], sources=sources)
    found = [(e.path, e.quote) for e in run.of(Answer)[-1].evidence]
    assert found == [("my notes (old).txt", "two"), ("plain.txt", "three")]


async def test_cancelling_in_mid_reply_ends_the_run(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def never(_: object) -> str:
        asked.set()
        return await asyncio.Future()

    run = prepare(tmp_path, [never], prices={"root": (1000.0, 0.0)})
    task = run.run.start()
    await asyncio.wait_for(asked.wait(), 60)
    run.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert run.end.status == "cancelled"
    assert run.models.in_flight == 0
    # It may have been sent, and is paid for then.
    characters = sum(len(message["content"]) for message in run.models.prompts[0])
    assert run.end.usage.prompt_tokens == characters // 4
    assert run.end.usage.cost == pytest.approx(characters // 4 / 1000)


async def test_a_call_that_failed_before_its_first_character_costs_nothing(tmp_path: Path) -> None:
    run = await play(tmp_path, [TransientError("gone")], prices={"root": (1000.0, 0.0)})
    assert (run.end.status, run.end.usage.cost) == ("failed", 0.0)


async def test_tries_that_were_given_up_count_with_their_prompts(tmp_path: Path) -> None:
    """A provider may charge what came too late."""
    late = TransientError("too late")
    asking = cell("context\ntry:\n    llm_query('x' * 4000)\nexcept SubcallError: pass")
    run = prepare(tmp_path, [asking, final()], sub=lambda _: late, prices={"sub": (1000.0, 0.0)})
    complete = run.models.complete

    async def with_late_tries(name: str, messages: object, **options: Any) -> Completion:
        before_second = len(run.models.prompts) == 1
        options["fate"].late = 2 if name == "sub" else int(before_second)
        return await complete(name, messages, **options)

    run.models.complete = with_late_tries  # type: ignore[method-assign]
    await asyncio.wait_for(run.run.start(), 50)
    assert run.end.status == "done"
    root = sum(len(message["content"]) for message in run.models.prompts[1]) // 4
    lost = run.end.usage.prompt_tokens - 2 * 10 - root  # beside two replies of the root model
    assert 2000 <= lost < 2500
    assert run.end.usage.cost == pytest.approx(lost / 1000)


async def test_cancelling_cancels_the_subcalls_in_flight(tmp_path: Path) -> None:
    started = asyncio.Semaphore(0)

    async def never(_: object) -> str:
        started.release()
        return await asyncio.Future()

    run = prepare(
        tmp_path, [cell('llm_query_batched(["x"] * 8)')], sub=lambda prompt: never(prompt)
    )
    task = run.run.start()
    for _ in range(8):
        await asyncio.wait_for(started.acquire(), 60)
    run.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert run.models.in_flight == 0
    assert {e.status for e in run.of(SubcallDone)} == {"cancelled"}


async def test_cancelling_a_cell_lets_the_run_go_on(tmp_path: Path) -> None:
    run = prepare(tmp_path, [cell("print('busy')\nwhile True: pass"), final()])
    task = run.run.start()
    async with asyncio.timeout(60):
        while not run.of(Output):
            await run.run.log.grown(run.run.log.size)
    assert not run.run.cancel("0.7")
    assert run.run.cancel("0.1")
    await asyncio.wait_for(task, 60)
    assert (run.end.status, run.answer) == ("done", "42")
    assert run.of(CellDone)[0].status == "cancelled"


async def test_what_is_streamed_makes_the_whole_reply(tmp_path: Path) -> None:
    run = await play(tmp_path, [final()])
    deltas = run.of(ReplyDelta)
    assert "".join(e.text for e in deltas if e.part == "prose") == "I run this.\n"
    assert "".join(e.text for e in deltas if e.part == "code").startswith("context\nanswer[")


async def test_the_prompts_of_a_run_share_their_beginning(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("print(1)"), cell("print(2)"), final()])
    for earlier, later in zip(run.models.prompts, run.models.prompts[1:], strict=False):
        assert later[: len(earlier)] == earlier


async def test_long_output_is_clipped_for_the_model_and_kept_whole(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("print('a' * 100_000, 'end')"), final("str(len(_result_1))")])
    assert len(run.told(1)) < 6_000
    assert "100,00" in run.told(1)
    assert int(run.answer) >= 100_004


async def test_evidence_is_what_really_stands_in_the_context(tmp_path: Path) -> None:
    named = '"greek.txt:2 and greek.txt:99 and nowhere.txt:1 and greek.txt:2 again"'
    run = await play(tmp_path, [final(named)])
    [evidence] = run.of(Answer)[-1].evidence
    assert (evidence.path, evidence.line, evidence.quote) == ("greek.txt", 2, "beta")


async def test_a_long_answer_comes_in_several_events(tmp_path: Path) -> None:
    run = await play(tmp_path, [final("'x' * 40_000")])
    assert [e.more for e in run.of(Answer)] == [True, True, False]
    assert run.answer == "x" * 40_000


async def test_a_file_that_is_gone_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    sources = [FileSource(path=str(tmp_path / "gone.txt")), TextSource(text="there")]
    run = await play(tmp_path, [final()], sources=sources)
    assert run.end.status == "done"
    ready = next(e for e in run.events if type(e).__name__ == "ContextReady")
    assert ready.left_out_counts == {"gone": 1}


async def test_the_root_is_told_the_shape_and_never_the_text(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(30):
        (tree / f"file{number:02}.txt").write_text(f"secret {number}\n" * 500)
    run = await play(tmp_path, [final()], sources=[TreeSource(root=str(tree))])
    told = run.told(0)
    assert "30 documents" in told
    assert "file" in told
    assert len(told) < 3_000


async def test_notices_say_what_the_engine_did(tmp_path: Path) -> None:
    run = await play(tmp_path, ["only prose", final()])
    assert any("no code" in e.text for e in run.of(Notice))


async def test_a_log_that_fails_at_the_last_step_still_ends_the_run(tmp_path: Path) -> None:
    run = prepare(tmp_path, [final()])
    append = run.run.log.append

    def fail(event: object) -> None:
        if type(event).__name__ == "CellDone":
            raise LogError("the disk is full", cure="Free some space.")
        append(event)

    run.run.log.append = fail
    await asyncio.wait_for(run.run.start(), 60)
    assert (run.end.status, run.end.error.kind) == ("failed", "log")
    assert run.run.log.closed
    assert not (tmp_path / "context").exists()


async def test_a_log_that_fails_at_once_starts_no_run(tmp_path: Path) -> None:
    run = prepare(tmp_path, [final()])

    def fail(event: object) -> None:
        raise LogError("the disk is full")

    run.run.log.append = fail
    with pytest.raises(LogError):
        run.run.start()
    assert run.models.prompts == []


async def test_calls_beyond_the_limit_do_not_fill_the_log(tmp_path: Path) -> None:
    code = "for _ in range(500):\n    try: llm_query('x')\n    except SubcallError: pass"
    run = await play(tmp_path, [cell(code), final()], subcalls=3)
    assert len(run.of(SubcallStarted)) < 20


async def test_many_cells_share_one_budget_of_output(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("print('x' * 9000)") * 50, final()])
    assert len(run.told(1)) < 15_000
    assert "did not run" in run.told(1)


async def test_a_broken_off_and_a_cancelled_call_are_counted(tmp_path: Path) -> None:
    async def never(_: object) -> str:
        return await asyncio.Future()

    run = await play(
        tmp_path,
        [cell('llm_query("x" * 4000)'), final()],
        sub=lambda prompt: never(prompt),
        cell_seconds=0.5,
    )
    assert run.end.status == "done"
    assert run.end.usage.prompt_tokens > 1000
