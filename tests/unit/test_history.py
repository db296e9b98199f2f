"""The history: what a conversation costs, what stays as it was, and what is summed up."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine_harness import cell, final, play
from rlm_server.engine.history import LEAST_ROOM, Feedback, History, bound_names
from rlm_server.models import Message
from rlm_server.protocol import Notice

OPENING: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Question: Why?"},
]


def same(text: str) -> Feedback:
    return Feedback(text, text)


def size(messages: list[Message]) -> int:
    return sum(len(message["content"]) for message in messages)


async def test_twenty_turns_that_print_100_kb_cost_little_and_grow_linearly(tmp_path: Path) -> None:
    noisy = [cell(f"print('{number:04}' * 25_000)") for number in range(20)]
    run = await play(tmp_path, [*noisy, final()], iterations=21)
    sizes = [size(prompt) for prompt in run.models.prompts[:20]]
    assert sum(sizes) < 180_000
    # The second half costs little more than the first, which it would thrice if it were square.
    assert sum(sizes[10:]) < 1.5 * sum(sizes[:10])


async def test_what_has_been_printed_does_not_change_what_later_turns_cost(tmp_path: Path) -> None:
    costs = []
    for characters in (10_000, 1_000_000):
        replies = [cell(f"print('x' * {characters})")] * 5
        run = await play(tmp_path / str(characters), [*replies, final()])
        costs.append(sum(map(size, run.models.prompts)))
    assert abs(costs[1] - costs[0]) < 500


async def test_a_long_output_is_shown_at_length_once_and_named_afterwards(tmp_path: Path) -> None:
    code = "print('first', 'x' * 9_000, 'last')"
    run = await play(tmp_path, [cell(code), cell("1"), final("_result_1[-5:-1]")])
    assert "first" in run.told(1)
    assert run.told(1).rstrip().endswith("last")
    named = run.models.prompts[2][3]["content"]
    assert "first" in named
    assert "_result_1" in named
    assert len(named) < 300
    assert run.answer == "last"


async def test_a_short_output_stays_as_it_was(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("print('x' * 3_000)"), cell("1"), cell("2"), final()])
    for earlier, later in zip(run.models.prompts, run.models.prompts[1:], strict=False):
        assert later[: len(earlier)] == earlier


async def test_only_the_last_message_changes_when_a_long_output_was_seen(tmp_path: Path) -> None:
    noisy = [cell(f"print('{number}' * 50_000)") for number in range(6)]
    run = await play(tmp_path, [*noisy, final()])
    for earlier, later in zip(run.models.prompts, run.models.prompts[1:], strict=False):
        assert later[: len(earlier) - 1] == earlier[:-1]


async def test_a_small_window_is_never_crossed_and_old_turns_are_summed_up(tmp_path: Path) -> None:
    replies = [cell(f"x{number} = {number}\nprint('y' * 1_500)") for number in range(18)]
    look = cell(
        "print(len(history), sum('x3 = 3' in past.code for past in history), history[3].reply)"
    )
    run = await play(
        tmp_path, [*replies, look, final("str(x0 + x17)")], windows={"root": 6_000}, iterations=20
    )
    assert run.answer == "17"
    assert max(map(size, run.models.prompts)) < 6_000 * 3
    assert "18 1 I run this.\n```repl\nx3 = 3" in run.told(19)
    summed_up = [e for e in run.of(Notice) if "summed up" in e.text]
    assert 1 <= len(summed_up) <= 6
    assert all(e.level == "info" for e in summed_up)
    first = run.models.prompts[-1][1]["content"]
    assert first.startswith(run.models.prompts[0][1]["content"])
    assert "made x12" in first
    assert "I run this." in first


def test_summing_up_is_rare_and_keeps_the_newest() -> None:
    history = History(OPENING, None)
    changes = 0
    before = history.messages
    for number in range(200):
        history.add("r" * 900, same(f"{number} " + "f" * 900))
        messages = history.messages
        changes += messages[: len(before)] != before
        before = messages
        assert messages[-1]["content"].startswith(f"{number} ")
        assert messages[0] == OPENING[0]
    assert 1 <= changes <= 10


def test_a_reply_without_end_does_not_fill_the_window() -> None:
    history = History(OPENING, None)
    assert history.add("The same. " * 50_000, same("short")) == ""
    assert size(history.messages) < 50_000
    assert "left out" in history.messages[2]["content"]


def test_what_summing_up_saves_is_told() -> None:
    history = History(OPENING, None)
    told = [history.add("r" * 9_000, same("f" * 1_000)) for _ in range(20)]
    [said, *_] = filter(None, told)
    figures = re.findall(r"([\d,]+) (?:characters|now)", said)
    before, now = (int(figure.replace(",", "")) for figure in figures)
    assert now < before / 2


def test_a_summary_does_not_grow_without_end() -> None:
    history = History(OPENING, 1_000)
    for number in range(500):
        history.add(f"I try {number}.\n```repl\nx = {number}\n```", same("n" * 1_000))
    assert size(history.messages) < LEAST_ROOM + 2_000
    assert "see `history`" in history.messages[1]["content"]


@given(
    st.integers(1, 200_000),
    st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 4_000), st.integers(0, 4_000))),
)
def test_whatever_is_added_the_roles_alternate_and_the_room_is_kept(
    window: int, turns: list[tuple[int, int, int]]
) -> None:
    history = History(OPENING, window)
    for reply, now, later in turns:
        told = Feedback("n" * now, "l" * min(now, later))
        history.add("r" * reply, told)
        roles = [message["role"] for message in history.messages]
        assert roles == ["system", "user"] + ["assistant", "user"] * ((len(roles) - 2) // 2)
        assert history.messages[-1]["content"] == told.now
        newest = max(1, reply) + now
        assert size(history.messages) <= max(LEAST_ROOM, window * 3) + newest + 2_000


def test_what_is_said_between_turns_comes_with_the_next_request() -> None:
    history = History(OPENING, None)
    history.say("First of all.")
    assert history.messages[-1]["content"] == "Question: Why?\n\nFirst of all."
    history.add("So.", Feedback("much", "little"))
    history.say("And then?")
    assert history.messages[-1]["content"] == "much\n\nAnd then?"
    history.add("So.", same("yes"))
    assert history.messages[3]["content"] == "little\n\nAnd then?"
    assert OPENING[-1]["content"] == "Question: Why?"


def test_the_names_of_a_cell_are_found() -> None:
    code = "import re\na, (b, *c) = 1, (2, 3)\nfor d in []: e = 1\ndef f():\n    g = 1\nx.y = 2\n"
    assert list(bound_names(code)) == ["a", "b", "c", "d", "e", "f"]
    assert list(bound_names("h = [i for i in j]; k = lambda l: l")) == ["h", "k"]
    assert list(bound_names("not python")) == []
