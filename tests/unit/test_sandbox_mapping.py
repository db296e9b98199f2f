from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from rlm_server.sandbox.mapping import Mapping
from rlm_server.sandbox.subcalls import SubcallError, SubcallFailure
from vocabulary_support import document

ITEM = re.compile(r"<item (\d+)[^>]*>\n(.*?)\n</item \1>", re.DOTALL)


class Model:
    """Answers batches by a function of the round and of the items in a prompt."""

    def __init__(self, answer: Callable[[int, list[str]], str]) -> None:
        self._answer = answer
        self.rounds: list[list[list[str]]] = []
        self.prompts: list[str] = []

    def __call__(self, prompts: list[str], model: str | None) -> list[str]:
        self.prompts += prompts
        batches = [[text for _, text in ITEM.findall(prompt)] for prompt in prompts]
        if batches:
            self.rounds.append(batches)
        return [self._answer(len(self.rounds), batch) for batch in batches]


def upper(items: list[str]) -> str:
    return json.dumps({str(n): item.upper() for n, item in enumerate(items, 1)})


def failure(text: str) -> SubcallFailure:
    failed = SubcallFailure(text)
    failed.error = SubcallError(text)
    return failed


def test_every_item_in_order_many_in_a_call() -> None:
    model = Model(lambda _, items: upper(items))
    assert Mapping(model).map_reduce(iter("abcde"), "Shout.", batch=2) == list("ABCDE")
    assert model.rounds == [[["a", "b"], ["c", "d"], ["e"]]]
    assert model.prompts[0].startswith("Shout.\n\n<item 1>\na\n</item 1>\n<item 2>")
    assert Mapping(model).map_reduce([], "Shout.") == []
    assert Mapping(model).map_reduce(["x"], "Shout.", reduce=len) == 1


def test_long_items_fill_fewer_to_a_prompt() -> None:
    model = Model(lambda _, items: upper(items))
    Mapping(model).map_reduce(["x" * 60_000] * 3 + ["y"], "Shout.")
    assert [len(batch) for batch in model.rounds[0]] == [1, 1, 2]


@pytest.mark.parametrize(
    "reply",
    [
        '{"1": "A", "2": "B"}',
        'Here it is:\n```json\n{"2": "B", "1": "A"}\n```\nDone.',
        "1: A\n2: B",
        "Sure!\n- 1. A\n- 2. B\n",
        "(1) = A\n[2] = B",
        "Item 1: A\nitem 2: B",
    ],
)
def test_forms_of_reply(reply: str) -> None:
    model = Model(lambda _, items: reply)
    assert Mapping(model).map_reduce(["a", "b"], "?") == ["A", "B"]
    assert len(model.rounds) == 1


@pytest.mark.parametrize(
    "reply",
    [
        '{"1": "A", "3": "C"}',
        '{"1": "A", "2": "B", "2": "X", "3": "C"}',
        "1: A\n2: B\n2: B\n3: C",
        '{"1": "A", "2": "", "3": "C"}',
        '{"1": "A", "2": null, "3": "C"}',
    ],
)
def test_what_is_missing_or_doubled_is_asked_again(reply: str) -> None:
    model = Model(lambda turn, items: reply if turn == 1 else upper(items))
    assert Mapping(model).map_reduce(["a", "b", "c"], "?") == ["A", "B", "C"]
    assert model.rounds == [[["a", "b", "c"]], [["b"]]]


def test_a_reply_that_counts_from_zero_is_not_believed() -> None:
    model = Model(lambda turn, items: '{"0": "A", "1": "B"}' if turn == 1 else upper(items))
    assert Mapping(model).map_reduce(["a", "b"], "?") == ["A", "B"]
    assert model.rounds[1] == [["a", "b"]]


def test_at_last_items_are_asked_one_by_one_and_then_given_up() -> None:
    def answer(turn: int, items: list[str]) -> str:
        if items == ["b"]:
            return "B"
        return "{}" if turn < 3 or items == ["c"] else upper(items)

    model = Model(answer)
    a, b, c = Mapping(model).map_reduce(["a", "b", "c"], "?")
    assert (a, b) == ("A", "B")
    assert model.rounds == [[["a", "b", "c"]], [["a", "b", "c"]], [["a"], ["b"], ["c"]]]
    assert isinstance(c, SubcallFailure)
    assert "items[2]" in str(c.error)


def test_a_failed_call_stands_in_place_when_it_fails_to_the_end() -> None:
    model = Model(lambda turn, items: failure("down") if "b" in items else upper(items))
    a, b = Mapping(model).map_reduce(["a", "b"], "?", batch=1)
    assert a == "A"
    assert str(b.error) == "down"
    passing = Model(lambda turn, items: failure("busy") if turn == 1 else upper(items))
    assert Mapping(passing).map_reduce(["a"], "?") == ["A"]


def test_only_the_labels_are_taken() -> None:
    answers = {1: '{"1": "*Spam*", "2": "maybe"}', 2: "unsure", 3: " ham. "}
    model = Model(lambda turn, items: answers[turn])
    assert Mapping(model).map_reduce(["a", "b"], "?", labels=["spam", "ham"]) == ["spam", "ham"]
    assert "The only answers allowed are: spam, ham" in model.prompts[0]
    numbers = Model(lambda turn, items: '{"1": 2, "2": "1"}')
    assert Mapping(numbers).map_reduce(["a", "b"], "?", labels=[1, 2]) == [2, 1]


def test_structured_judgements_and_places() -> None:
    model = Model(lambda turn, items: '{"1": {"kind": "x", "tags": [{"a": 1}]}}')
    item = document("text", "a.py")
    assert Mapping(model).map_reduce([item], "?") == [{"kind": "x", "tags": [{"a": 1}]}]
    assert '<item 1 from="a.py">' in model.prompts[0]


def test_what_can_not_be_meant_is_refused() -> None:
    mapping = Mapping(Model(lambda turn, items: ""))
    with pytest.raises(TypeError, match="lists"):
        mapping.map_reduce("text", "?")
    with pytest.raises(TypeError, match="lists"):
        mapping.map_reduce(["a"], "?", labels="yes")
    with pytest.raises(ValueError, match="batch"):
        mapping.map_reduce(["a"], "?", batch=0)
    with pytest.raises(ValueError, match="labels"):
        mapping.map_reduce(["a"], "?", labels=["Yes", "yes"])
