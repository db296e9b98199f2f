"""Typed answers: a value that fits the schema comes out, or it is said that none did."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine_harness import Played, cell, final, play, prepare
from rlm_server.engine.typed import MOST_REFUSALS, AnswerType
from rlm_server.errors import SchemaError
from rlm_server.protocol import Answer, AskOptions, CellDone, Notice

COUNT = {
    "type": "object",
    "properties": {"word": {"type": "string"}, "count": {"type": "integer", "minimum": 0}},
    "required": ["word", "count"],
    "additionalProperties": False,
}


async def typed(tmp_path: Path, replies: list[str], schema: Any = COUNT, **limits: Any) -> Played:
    return await play(tmp_path, replies, options=AskOptions(schema=schema), **limits)


@pytest.mark.parametrize(
    "content",
    [
        '{"word": "beta", "count": 1}',
        'dict(word="beta", count=True + 0)',
        """'{"word": "beta", "count": 1}'""",
        """'It is:\\n```json\\n{"word": "beta", "count": 1}\\n```\\n'""",
    ],
)
async def test_a_value_or_its_json_is_the_answer(tmp_path: Path, content: str) -> None:
    run = await typed(tmp_path, [final(content)])
    [answer] = run.of(Answer)
    assert run.end.status == "done"
    assert (answer.typed, answer.value) == (True, {"word": "beta", "count": 1})
    assert json.loads(answer.text) == answer.value


@pytest.mark.parametrize(
    ("schema", "content", "value"),
    [
        ({"type": "string"}, '"42"', "42"),
        ({"type": "integer"}, '"42"', 42),
        ({"type": "integer"}, "len([1, 2])", 2),
        ({"type": "array", "items": {"type": "string"}}, '("a", "b")', ["a", "b"]),
        ({"type": ["string", "null"]}, "None", None),
        ({"type": "boolean"}, "1 == 1", True),
        ({"type": "string"}, '"see [1] there"', "see [1] there"),
        ({}, "[[]]", [[]]),
    ],
)
async def test_answers_of_every_type(
    tmp_path: Path, schema: Any, content: str, value: object
) -> None:
    run = await typed(tmp_path, [final(content)], schema)
    assert (run.end.status, run.of(Answer)[-1].value) == ("done", value)


async def test_what_does_not_fit_is_told_and_mended(tmp_path: Path) -> None:
    wrong = final('{"word": "beta", "count": -1, "more": []}')
    mended = cell('answer["content"] = {"word": "beta", "count": 3}\nanswer["ready"] = True')
    run = await typed(tmp_path, [wrong, cell("answer"), mended])
    assert "- $.count has to be at least 0\n- $.more is not allowed" in run.told(1)
    assert "does not fit" not in run.told(2)  # it is not ready any more
    assert run.of(Answer)[0].value == {"word": "beta", "count": 3}
    assert [e.text for e in run.of(Notice) if "refused" in e.text] == [
        "An answer was refused, since it does not fit the schema: $.count has to be at least 0."
    ]


async def test_an_answer_that_never_fits_fails_clearly_and_is_kept_untyped(tmp_path: Path) -> None:
    run = await typed(tmp_path, [final('"beta, once"')] * 30)
    [answer] = run.of(Answer)
    assert (run.end.status, run.end.iterations) == ("failed", MOST_REFUSALS)
    assert run.end.error and run.end.error.kind == "schema"
    assert "5 answers did not fit the schema; of the last, $ has to be object" in run.end.reason
    assert (answer.text, answer.partial, answer.typed) == ("beta, once", True, False)
    assert answer.value is msgspec.UNSET


async def test_an_answer_that_fits_at_the_stop_is_typed_and_partial(tmp_path: Path) -> None:
    code = 'answer["content"] = {"word": "beta", "count": 0}'
    run = await typed(tmp_path, [cell(code)], iterations=1)
    [answer] = run.of(Answer)
    assert (run.end.status, answer.partial, answer.typed) == ("limit", True, True)
    assert answer.value == {"word": "beta", "count": 0}


async def test_the_schema_is_told_and_the_system_prompt_is_the_same(tmp_path: Path) -> None:
    run = await typed(tmp_path / "a", [final('{"word": "", "count": 0}')])
    plain = await play(tmp_path / "b", [final()])
    assert json.dumps(COUNT) in run.told(0)
    assert run.models.prompts[0][0] == plain.models.prompts[0][0]
    assert run.told(0).startswith(plain.told(0))


async def test_a_long_typed_answer_comes_as_json_in_pieces(tmp_path: Path) -> None:
    run = await typed(tmp_path, [final("list(range(9_000))")], {"type": "array"})
    assert len(run.of(Answer)) > 1
    assert all(event.typed and event.value is msgspec.UNSET for event in run.of(Answer))
    assert json.loads(run.answer) == list(range(9_000))


async def test_integers_that_some_readers_can_not_take_are_only_in_the_text(tmp_path: Path) -> None:
    run = await typed(tmp_path, [final('{"n": [10 ** 30]}')], {"type": "object"})
    assert run.of(Answer)[0].value is msgspec.UNSET
    assert json.loads(run.answer) == {"n": [10**30]}


async def test_an_untyped_answer_that_is_no_text_is_shown_as_json(tmp_path: Path) -> None:
    run = await play(tmp_path, [final('{"a": [1, None]}')])
    assert run.answer == '{"a": [1, null]}'
    assert not run.of(Answer)[0].typed


async def test_what_json_can_not_say_is_refused(tmp_path: Path) -> None:
    run = await typed(tmp_path, [final("{1, 2}"), final("[1, 2]")], {"type": "array"})
    assert "has to be array" in run.told(1)
    assert run.of(Answer)[0].value == [1, 2]


async def test_a_refused_first_answer_is_not_taken_when_the_context_is_read(tmp_path: Path) -> None:
    replies = [cell('FINAL("guessed")'), cell("print(context)"), final()]
    run = await play(tmp_path, replies)
    assert (run.end.iterations, run.answer) == (3, "42")
    replies[0] = cell('answer.update(content="guessed", ready=True)')
    run = await play(tmp_path / "dict", replies)
    assert (run.end.iterations, run.answer) == (3, "42")
    assert len(run.of(CellDone)) == 3


@pytest.mark.parametrize("schema", [{"type": "text"}, {"contains": {}}, {"$ref": "#/$defs/a"}])
def test_a_schema_that_can_not_be_checked_is_refused_before_anything_is_paid(
    tmp_path: Path, schema: Any
) -> None:
    with pytest.raises(SchemaError, match="can't be used"):
        prepare(tmp_path, [], options=AskOptions(schema=schema))


def test_a_value_that_is_nested_too_deeply_is_a_problem_and_no_crash() -> None:
    schema = {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    deep = "[" * 900 + "]" * 900
    assert AnswerType(schema).read(deep)[1] in ([], ["$ is nested too deeply"])


async def test_a_refusal_is_remembered_when_a_cell_dies(tmp_path: Path) -> None:
    replies = [
        cell('answer.update(content="guessed", ready=True)'),
        cell("import os; os._exit(1)"),
        cell("print(context)"),
        final(),
    ]
    run = await play(tmp_path, replies)
    assert (run.end.iterations, run.answer) == (4, "42")
