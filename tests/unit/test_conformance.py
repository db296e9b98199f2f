"""The engine is held to the cases of ``tests/conformance``, which any engine could be held to."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine_harness import play
from rlm_server.protocol import Answer, TextSource

CASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent.parent / "conformance" / "cases.toml").read_text("utf-8")
)["case"]


def reply_of(text: str) -> str:
    """A reply as a model would write it; ``!`` begins what is the code of one block."""
    return f"I run this.\n```repl\n{text[1:].strip()}\n```\n" if text.startswith("!") else text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
async def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    limits = {name.replace("-", "_"): value for name, value in case.get("limits", {}).items()}
    run = await play(
        tmp_path,
        [reply_of(text) for text in case["replies"]],
        sources=[TextSource(text=case.get("context", "alpha\nbeta\ngamma\n"), name="greek.txt")],
        **limits,
    )
    text, times = case.get("answer-times", (case.get("answer"), 1))
    assert run.answer == (text.strip() if case.get("trim") else text) * times, case["why"]
    assert run.end.status == case.get("status", "done"), run.end.reason
    assert run.of(Answer)[-1].partial is (run.end.status != "done")
    most = case.get("iterations-at-most")
    assert run.end.iterations <= most if most else run.end.iterations == len(case["replies"])
    for turn, words in case.get("told", {}).items():
        for word in words:
            assert word in run.told(int(turn) - 1), case["why"]


def test_there_are_enough_cases_and_each_has_a_name_of_its_own() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 40
    assert all(case["why"] for case in CASES)
