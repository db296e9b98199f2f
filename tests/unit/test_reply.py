"""The reply parser: code is found if and only if it is fenced, however the reply is cut."""

import itertools
import re
import textwrap

from hypothesis import given
from hypothesis import strategies as st

from rlm_server.engine.reply import CODE_LANGUAGES, ReplyParser


def parse(*portions: str) -> ReplyParser:
    parser = ReplyParser()
    for portion in portions:
        parser.feed(portion)
    parser.close()
    return parser


def test_a_fenced_block_is_a_cell() -> None:
    assert parse("Look:\n```repl\nprint(1)\n```\nDone.").cells == ["print(1)\n"]


def test_python_and_py_fences_count_too() -> None:
    assert parse("```python\na\n```\n~~~py\nb\n~~~\n").cells == ["a\n", "b\n"]


def test_prose_is_never_code() -> None:
    assert parse("FINAL(42) and `print(1)` and ```inline```").cells == []


def test_another_language_is_reported_and_not_run() -> None:
    parser = parse("```json\n{}\n```\n```\nplain\n```\n")
    assert parser.cells == []
    assert parser.other_fences == ["json", ""]


def test_a_fence_inside_a_string_does_not_close_the_cell() -> None:
    code = 'x = """\n```python\nprint(2)\n```\n"""\nprint(x)\n'
    assert parse(f"```repl\n{code}```\nprose").cells == [code]


def test_a_longer_fence_holds_a_shorter_one() -> None:
    assert parse("````repl\n# ```\n```\n````\n").cells == ["# ```\n```\n"]


def test_an_unclosed_cell_ends_with_the_reply() -> None:
    parser = parse("```repl\nprint(1)")
    assert parser.cells == ["print(1)\n"]
    assert parser.unclosed


def test_a_closing_fence_on_the_last_code_line_is_taken_off() -> None:
    assert parse("```repl\nprint(1)```").cells == ["print(1)\n"]


def test_an_indented_block_is_dedented() -> None:
    assert parse("- do:\n  ```repl\n  if a:\n      b\n  ```\n").cells == ["if a:\n    b\n"]


def test_an_empty_block_is_no_cell() -> None:
    assert parse("```repl\n\n```\n").cells == []


def test_windows_line_ends_are_read() -> None:
    assert parse("```repl\r\nprint(1)\r\n```\r\n").cells == ["print(1)\n"]


def test_text_is_shown_before_its_line_ends() -> None:
    parser = ReplyParser()
    assert [p.text for p in parser.feed("Let me lo")] == ["Let me lo"]
    assert parser.feed("``") != []
    fresh = ReplyParser()
    assert fresh.feed("``") == []


def test_a_hostile_line_or_cell_takes_linear_time() -> None:
    # Quadratic, each of these would take minutes.
    assert parse("~~~" + "a" * 300_000 + "`\n").cells == []
    assert parse("```" + " " * 300_000 + "`\n").cells == []
    assert parse('```repl\nx = """\n' + "```\n" * 50_000).unclosed


LINES = [
    *("```", "```repl", "```python", "```{python}", "~~~", "````", "  ```"),
    *("x = 1", '"""', "'''", "", "prose", "<think>", "</think>", "so </think>"),
]
FENCED = st.lists(
    st.sampled_from(LINES),
    max_size=30,
).map("\n".join)


@given(st.one_of(st.text(), FENCED), st.data())
def test_how_a_reply_is_cut_changes_nothing(reply: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    edges = [0, *cuts, len(reply)]
    portions = [reply[a:b] for a, b in itertools.pairwise(edges)]
    whole, cut = ReplyParser(), ReplyParser()
    shown_whole = whole.feed(reply) + whole.close()
    shown_cut = [piece for portion in portions for piece in cut.feed(portion)] + cut.close()
    assert whole.cells == cut.cells
    for part in ("prose", "code"):
        assert "".join(p.text for p in shown_whole if p.part == part) == "".join(
            p.text for p in shown_cut if p.part == part
        )


@given(st.text(alphabet=st.characters(exclude_characters="`~")))
def test_without_a_fence_there_is_never_a_cell(reply: str) -> None:
    assert parse(reply).cells == []


@given(st.text(alphabet="`~repl \n\r\tx'\"#", max_size=120), st.data())
def test_the_pieces_joined_are_the_reply(text: str, data) -> None:
    reply = "Look:\n```repl\nprint(1)\n```\n" + text
    cut = data.draw(st.integers(0, len(reply)))
    parser = ReplyParser()
    pieces = parser.feed(reply[:cut]) + parser.feed(reply[cut:]) + parser.close()
    whole = "".join(piece.text for piece in pieces)
    assert whole == reply.replace("\r\n", "\n")
    assert parser.characters == len(whole)


def test_fences_stand_between_adjacent_cells() -> None:
    pieces = ReplyParser().feed("```repl\na\n```\n```py\nb\n```\n")
    assert [piece.part for piece in pieces] == ["fence", "code", "fence", "code", "fence"]


@given(st.lists(st.sampled_from(["```", "```repl", "x = 1", "````", "prose", ""])), FENCED)
def test_of_thoughts_nothing_is_run(thoughts: list[str], reply: str) -> None:
    after = parse("\n".join([*thoughts, "</think>", reply]))
    assert after.thought
    assert after.cells == parse(f"</think>\n{reply}").cells


PROSE = st.text(alphabet=st.characters(exclude_characters="`~\r", exclude_categories=("Cs",)))
CODE = st.lists(
    st.text(alphabet=st.characters(min_codepoint=32, exclude_characters="`~'\"\\"), min_size=1),
    min_size=1,
    max_size=5,
).filter(lambda lines: bool("".join(lines).strip()))


@given(PROSE, st.sampled_from(["```repl", "~~~~python", "  ```py", "```Python x=1"]), CODE, PROSE)
def test_what_is_fenced_is_found_whatever_stands_around_it(
    before: str, opening: str, code: list[str], after: str
) -> None:
    fence = opening.strip()[:3] * 2
    lines = [line.replace("\x85", "") for line in code]
    reply = f"{before}\n{opening}\n" + "\n".join(lines) + f"\n{fence}\n{after}"
    parser = parse(reply)
    assert len(parser.cells) == bool("".join(lines).strip())
    if parser.cells:
        wanted = textwrap.dedent("\n".join(lines) + "\n").strip("\n").splitlines()
        assert parser.cells[0].splitlines() == wanted


@given(st.one_of(st.text(), FENCED))
def test_no_reply_crashes_and_none_has_more_cells_than_openings(reply: str) -> None:
    parser = ReplyParser()
    pieces = parser.feed(reply) + parser.close()
    named = "|".join(CODE_LANGUAGES)
    fence = r"(?:`{3,}|~{3,})[ \t]*\{?"
    openings = re.findall(rf"^[ \t]*{fence}(?:{named})\b", reply, re.M | re.I)
    assert len(parser.cells) <= len(openings)
    assert "".join(piece.text for piece in pieces) == reply.replace("\r\n", "\n")
