"""Direct answers: which texts go straight to the model, and what comes of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine_harness import Played, ScriptedModels, cell, final, play, prepare, resume
from rlm_server.config import Config, ProfileConfig
from rlm_server.engine.program import Program
from rlm_server.errors import TransientError
from rlm_server.protocol import (
    Answer,
    AskOptions,
    CellStarted,
    IterationStarted,
    Notice,
    Provenance,
    ReplyDelta,
    TextSource,
)

CLAUDE = {"root": "anthropic/claude-x"}
YES, NO = AskOptions(direct=True), AskOptions(direct=False)


async def ask(tmp_path: Path, replies: list[Any], **options: Any) -> Played:
    options.setdefault("ids", CLAUDE)
    return await play(tmp_path, replies, **options)


async def test_a_text_that_fits_goes_straight_to_the_model(tmp_path: Path) -> None:
    run = await ask(tmp_path, ["It is beta, at greek.txt:2."])
    assert (run.end.status, run.end.iterations, run.end.subcalls) == ("done", 1, 0)
    assert run.answer == "It is beta, at greek.txt:2."
    [evidence] = run.of(Answer)[-1].evidence
    assert (evidence.path, evidence.line, evidence.quote) == ("greek.txt", 2, "beta")
    assert run.of(CellStarted) == []
    assert run.of(Provenance)[0].read == 17  # all of it
    [asked] = run.models.prompts
    assert asked[1]["content"].startswith("Question: What is in it?\n\nThe text:\n<<<\n")
    assert "===== greek.txt =====\n1: alpha\n2: beta\n3: gamma\n>>>" in asked[1]["content"]


async def test_the_run_says_so_and_streams_the_reply(tmp_path: Path) -> None:
    run = await ask(tmp_path, ["It is beta."])
    [told] = run.of(Notice)
    assert told.level == "info"
    assert told.text == (
        "The text, about 4 tokens, goes straight to the model: the profile claude does so up to "
        "16,000."
    )
    assert "".join(event.text for event in run.of(ReplyDelta)) == "It is beta."
    assert run.end.usage.prompt_tokens == 10


@pytest.mark.parametrize("begins", ["", "<think>"])
async def test_thoughts_are_no_part_of_the_answer(tmp_path: Path, begins: str) -> None:
    run = await ask(tmp_path, [f"{begins}Perhaps gamma?\n</think>\n\nIt is beta."])
    assert run.answer == "It is beta."


async def test_every_document_is_there_with_the_lines_of_its_origin(tmp_path: Path) -> None:
    sources = [TextSource(text="one\n\nthree", name="a"), TextSource(text="", name="b")]
    run = await ask(tmp_path, ["Two."], sources=sources)
    assert "===== a =====\n1: one\n2: \n3: three\n===== b =====\n1: \n>>>" in run.told(0)


@pytest.mark.parametrize("options", [AskOptions(), NO])
async def test_no_other_model_gets_the_text_unless_it_is_asked_for(
    tmp_path: Path, options: AskOptions
) -> None:
    run = await ask(tmp_path, [final()], ids={}, options=options, sources=[TextSource(text="a")])
    assert (run.answer, len(run.of(CellStarted))) == ("42", 1)
    assert run.of(Notice) == []


@pytest.mark.parametrize(
    ("options", "ids", "config"),
    [
        (NO, CLAUDE, Config()),
        (AskOptions(), CLAUDE, Config(profiles={"claude": ProfileConfig(direct_tokens=0)})),
        (AskOptions(), {"root": "offline/extractive"}, Config()),
        (AskOptions(profile="default"), CLAUDE, Config()),
    ],
)
async def test_it_can_be_turned_off(
    tmp_path: Path, options: AskOptions, ids: Any, config: Config
) -> None:
    run = await ask(tmp_path, [final()], options=options, ids=ids, config=config)
    assert len(run.of(CellStarted)) == 1


async def test_it_can_be_asked_for(tmp_path: Path) -> None:
    run = await ask(tmp_path, ["beta"], options=YES, ids={})
    assert (run.answer, run.of(CellStarted)) == ("beta", [])
    assert "the question says so" in run.of(Notice)[0].text


async def test_a_text_that_is_too_long_is_looked_at_with_code(tmp_path: Path) -> None:
    long = [TextSource(text="word " * 20_000)]
    run = await ask(tmp_path / "a", [final()], sources=long)
    assert (run.answer, run.of(Notice)) == ("42", [])
    run = await ask(tmp_path / "b", [final()], sources=long, options=YES)
    assert run.answer == "42"
    assert "too long for a direct answer" in run.of(Notice)[0].text
    run = await ask(tmp_path / "c", ["x"], sources=long, options=YES, windows={"root": 200_000})
    assert run.answer == "x"


async def test_a_small_window_takes_less_than_the_profile(tmp_path: Path) -> None:
    text = [TextSource(text="word\n" * 3_000)]
    run = await ask(tmp_path / "a", ["x"], sources=text, windows={"root": 100_000})
    assert run.answer == "x"
    run = await ask(tmp_path / "b", [final()], sources=text, windows={"root": 8_000})
    assert run.answer == "42"


@pytest.mark.parametrize("reply", ["REPL", "`REPL`.", "", " \n"])
async def test_a_model_that_had_rather_write_code_may(tmp_path: Path, reply: str) -> None:
    run = await ask(tmp_path, [reply, cell("print(len(context))"), final()])
    assert (run.end.status, run.answer, run.end.iterations) == ("done", "42", 3)
    assert [e.iteration for e in run.of(IterationStarted)] == [1, 2, 3]
    assert [e.node for e in run.of(CellStarted)] == ["0.2", "0.3"]
    assert "code" in run.of(Notice)[1].text


async def test_limits_hold(tmp_path: Path) -> None:
    run = await ask(tmp_path / "a", ["x"], tokens=100)
    assert (run.end.status, run.answer, run.models.prompts) == ("limit", "", [])
    run = await ask(tmp_path / "b", ["REPL", final()], iterations=1)
    assert (run.end.status, run.end.iterations) == ("limit", 1)
    run = await ask(tmp_path / "c", ["beta"], prices={"root": (1.0, 4.0)}, cost=1.0)
    assert run.end.usage.cost == pytest.approx((10 + 4) / 1e6)


async def test_a_typed_answer_is_checked_and_asked_for_again(tmp_path: Path) -> None:
    schema = AskOptions(schema={"type": "integer"})
    run = await ask(tmp_path, ["Three lines.", "3"], options=schema)
    assert (run.end.status, run.of(Answer)[0].value) == ("done", 3)
    assert "$ has to be integer" in run.told(1)
    assert "Reply with JSON only" in run.told(0)


async def test_a_typed_answer_that_does_not_come_is_found_by_code(tmp_path: Path) -> None:
    schema = AskOptions(schema={"type": "integer"})
    replies = ["Three.", "Three!", final("len(context.splitlines())")]
    run = await ask(tmp_path, replies, options=schema)
    assert (run.end.status, run.of(Answer)[0].value, run.end.iterations) == ("done", 3, 3)


async def test_a_model_that_fails_ends_the_run(tmp_path: Path) -> None:
    run = await ask(tmp_path, [TransientError("the server is down")])
    assert (run.end.status, run.answer) == ("failed", "")


async def test_it_can_be_cancelled(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def never(_: object) -> str:
        asked.set()
        return await asyncio.Future()

    run = prepare(tmp_path, [never], ids=CLAUDE)
    task = run.run.start()
    await asyncio.wait_for(asked.wait(), 60)
    assert run.run.cancel(None)
    await asyncio.wait_for(task, 60)
    assert (run.end.status, run.models.in_flight) == ("cancelled", 0)


class Reader(ScriptedModels):
    """Declines to answer directly, then answers by code; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__([])
        self.paid: list[str] = []

    async def _say(self, name: str, messages: Any) -> str:
        turn = sum(message["role"] == "assistant" for message in messages)
        if "The text:" in messages[1]["content"]:
            self.paid.append("direct")
            return "REPL"
        self.paid.append(f"turn {turn}")
        return [cell("x = 40"), final("str(x + 2)")][turn]


async def test_a_run_that_is_resumed_goes_the_way_that_it_had_gone(tmp_path: Path) -> None:
    on = Config(profiles={"default": ProfileConfig(direct_tokens=1_000)})
    (tmp_path / "whole").mkdir()
    played = prepare(tmp_path / "whole", [], config=on)
    models = played.run._models = played.run._calls._models = Reader()  # type: ignore[assignment]
    await asyncio.wait_for(played.run.start(), 50)
    assert (played.answer, models.paid) == ("42", ["direct", "turn 0", "turn 1"])
    assert [e.direct for e in played.of(IterationStarted)] == [True, False, False]
    lines = played.run.log.path.read_bytes().splitlines(keepends=True)
    for config in (on, Config()):
        for count in range(4, len(lines)):
            log = b"".join(lines[:count])
            directory = tmp_path / f"{count}-{len(config.profiles)}"
            directory.mkdir()
            again = resume(directory, log, Reader(), config=config)
            await asyncio.wait_for(again.run.start(), 50)
            assert again.answer.endswith("42")
            if b'"iterationStarted"' in log or config is on:
                replies = log.count(b'"replyDone"')
                assert again.models.paid == ["direct", "turn 0", "turn 1"][replies:], count
                assert again.end.iterations == 3


async def test_a_program_that_is_run_again_is_run(tmp_path: Path) -> None:
    played = prepare(tmp_path, ["direct"], ids=CLAUDE)
    played.run._calls.program = Program({"0.1": final()})
    await asyncio.wait_for(played.run.start(), 50)
    assert (played.answer, played.models.prompts) == ("42", [])
