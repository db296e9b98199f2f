"""What a run does ahead: told, switched off, and without effect on any result."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine_harness import Played, cell, final, play
from engine_harness import played as begun
from rlm_server.config import Config, ProfileConfig, SpeculationConfig
from rlm_server.protocol import AskOptions, Notice, SubcallStarted

LOOP = """
parts = [f"part {n}" for n in range(12)]
found = []
for part in parts:
    found.append(llm_query(f"What is in {part}?"))
"""


class Sub:
    """A sub model that answers none of the first calls before so many of them are open."""

    def __init__(self, together: int) -> None:
        self.now = self.most = 0
        self._together = together
        self._all_there = asyncio.Event()

    async def __call__(self, prompt: str) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.most >= self._together:
            self._all_there.set()
        await self._all_there.wait()
        for _ in range(100):  # others that are on the way come before this is answered
            await asyncio.sleep(0)
        self.now -= 1
        return f"answer to {prompt}"


def told(played: Played) -> list[str]:
    return [e.text for e in played.of(Notice) if "as a batch" in e.text]


async def test_a_loop_is_one_batch_and_says_so(tmp_path: Path) -> None:
    sub = Sub(together=12)
    played = await play(tmp_path, [cell(LOOP), final("found[11]")], sub=sub)
    assert played.answer == "answer to What is in part 11?"
    assert sub.most == 12
    assert [e.prompt for e in played.of(SubcallStarted)] == [
        f"What is in part {n}?" for n in range(12)
    ]
    assert told(played) == [
        "The sub-calls of the loop in line 3 don't depend on each other: made as a batch."
    ]


@pytest.mark.parametrize(
    ("options", "config", "most"),
    [
        (AskOptions(speculate=False), Config(), 1),
        (AskOptions(), Config(speculation=SpeculationConfig(loops=False)), 1),
        (AskOptions(speculate=True), Config(speculation=SpeculationConfig(loops=False)), 12),
    ],
)
async def test_a_question_or_the_configuration_can_turn_batches_off(
    tmp_path: Path, options: AskOptions, config: Config, most: int
) -> None:
    sub = Sub(together=most)
    replies = [cell(LOOP), final("found[11]")]
    played = await play(tmp_path, replies, sub=sub, options=options, config=config)
    assert played.answer == "answer to What is in part 11?"
    assert sub.most == most
    assert bool(told(played)) == (most > 1)


CAUTIOUS = """
found = []
try:
    for n in range(6):
        found.append(llm_query(f"What is in part {n}?"))
        %s
except SubcallError as error:
    found.append(error.kind)
"""
ALONE = CAUTIOUS % "pass"
MAY_FAIL = CAUTIOUS % "print(found[-1])"
MIXED = CAUTIOUS % "found.append(llm_query('And then? ' + found[-1]))"


@pytest.mark.parametrize(
    ("code", "limits", "batch"),
    [
        (ALONE, {"subcalls": 4}, True),
        (ALONE, {"subcalls": 6}, True),
        (ALONE, {"tokens": 20_000}, True),
        (ALONE, {"tokens": 12_000}, False),
        (MAY_FAIL, {"subcalls": 6}, False),  # calls for turns not reached would take from others
        (MAY_FAIL, {"subcalls": 48}, True),
        (MAY_FAIL, {"tokens": 20_000}, False),
        (MIXED, {"subcalls": 7}, False),  # calls for later turns would take from this one's
        (MIXED, {"subcalls": 47}, False),
        (MIXED, {"subcalls": 48}, True),
        (MIXED, {"tokens": 20_000}, False),
    ],
)
async def test_limits_are_met_where_they_would_be_without(
    tmp_path: Path, code: str, limits: dict[str, Any], batch: bool
) -> None:
    answers = []
    for speculate in (False, True):
        directory = tmp_path / str(speculate)
        directory.mkdir()
        ahead = speculate and batch
        sub = Sub(together=2 if ahead else 1)
        played = await play(
            directory,
            [cell(code), final("str(found)")],
            sub=sub,
            options=AskOptions(speculate=speculate),
            **limits,
        )
        answers.append(played.answer)
        assert (sub.most > 1) == ahead
    assert answers[0] == answers[1]
    assert "part 0" in answers[0]


ENDS_EARLY = """
found = []
try:
    for n in range(40):
        found.append(int(llm_query(f"{n}")))
except ValueError:
    pass
for n in range(40):
    found.append(llm_query(f"What is in chapter {n}?"))
"""


async def test_calls_in_vain_do_not_count_against_what_a_reply_may_make(tmp_path: Path) -> None:
    config = Config(profiles={"careful": ProfileConfig(most_calls=64)})
    run = await play(
        tmp_path,
        [cell(ENDS_EARLY), final("len(found)")],
        sub=lambda prompt: "7" if len(prompt) == 1 or prompt[0] == "1" else "no",
        options=AskOptions(profile="careful"),
        config=config,
    )
    assert run.answer == "60"


async def test_what_earlier_questions_asked_does_not_keep_loops_alone(tmp_path: Path) -> None:
    async with begun(
        tmp_path, [cell(LOOP), final("found[11]"), cell(MAY_FAIL), final("str(found)")], subcalls=48
    ) as run:
        await run.ended()
        await run.ask_on("And then?")
        assert len(told(run)) == 2
