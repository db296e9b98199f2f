from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.sandbox.chunks import (
    Pieces,
    chunk_code,
    chunk_headings,
    chunk_lines,
    chunk_tokens,
)
from vocabulary_support import context, document

TEXT = st.text(st.sampled_from("ab (){}\n#*=-\";'\\\u20ac\r\f\U0001f600"), max_size=200)
CODE = st.lists(
    st.sampled_from(
        [
            "def f(x):\n    return x\n",
            "# note\n",
            "\n",
            "x = 1\n",
            "class C:\n    a = '''\ndef no(): pass\n'''\n",
            "@deco\ndef g(): pass\n",
            '(defun f (x)\n  "(defun no\n(no)" x)\n',
            "int\nmain(void)\n{\n  return 0;\n}\n",
            "# Title\n",
            "```\n# no\n",
            "* One\n",
            "Title\n=====\n",
            "broken (((\n",
        ]
    ),
    max_size=12,
).map("".join)
PATHS = st.sampled_from(["a.py", "b.el", "c.c", "d.md", "e.org", "f.rst", "g", "h.txt"])
CHUNKERS = st.sampled_from(
    [
        chunk_headings,
        chunk_code,
        chunk_lines,
        chunk_tokens,
        lambda text: chunk_lines(text, 1),
        lambda text: chunk_lines(text, 3),
        lambda text: chunk_tokens(text, 1),
        lambda text: chunk_tokens(text, 5),
    ]
)


def names(pieces: Pieces) -> list[str]:
    return [piece.name for piece in pieces]


def lines(pieces: Pieces) -> list[int]:
    return [piece.first_line for piece in pieces]


@given(TEXT | CODE, PATHS, CHUNKERS)
def test_pieces_cover_the_text_and_know_their_place(text: str, path: str, chunk) -> None:
    origin = document(text, path, first_line=11, start=1000)
    pieces = chunk(origin)
    assert "".join(pieces) == text
    at = 0
    for piece in pieces:
        assert piece
        assert piece.start == 1000 + at
        assert piece.first_line == origin.line_at(at)
        assert piece.path == path
        at += len(piece)


@given(TEXT, st.integers(1, 5), st.data())
def test_pieces_of_lines_overlap_as_told(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    whole = text.split("\n")
    kept = [line + "\n" for line in whole[:-1]] + ([whole[-1]] if whole[-1] else [])
    expected = []
    for first in range(0, len(kept), size - overlap):
        expected.append("".join(kept[first : first + size]))
        if first + size >= len(kept):
            break
    assert list(chunk_lines(text, size, overlap)) == expected


@given(TEXT, st.integers(1, 20), st.data())
def test_pieces_of_tokens_are_small_enough(text: str, tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tokens // 2))
    pieces = chunk_tokens(document(text), tokens, overlap)
    at = 0
    for piece in pieces:
        assert len(piece) <= 4 * tokens
        assert at - 4 * overlap <= piece.start <= at  # nothing is left out
        assert piece == text[piece.start : piece.start + len(piece)]
        assert piece.first_line == 1 + text.count("\n", 0, piece.start)
        assert piece.start + len(piece) > at  # and it ends
        at = piece.start + len(piece)
    assert at == len(text)


def test_tokens_are_cut_where_paragraphs_or_lines_end() -> None:
    text = ("word " * 15 + "\n") * 4 + "\n" + ("word " * 15 + "\n") * 9
    pieces = chunk_tokens(text, 100)
    assert pieces[0].endswith("\n\n")
    assert all(piece.endswith("\n") for piece in pieces)


def test_pieces_are_cut_out_when_they_are_asked_for() -> None:
    pieces = chunk_lines(context({"a": "x\n" * 10, "b": "y\n" * 3}), 4)
    assert isinstance(pieces, Pieces)
    assert [piece.place for piece in pieces] == ["a:1", "a:5", "a:9", "b:1"]
    assert (len(pieces), pieces[-1], pieces[1:3][0].place) == (4, "y\ny\ny\n", "a:5")
    assert repr(pieces) == "<4 pieces: a:1, a:5, a:9, b:1>"
    assert [p.place for p in chunk_lines(pieces[:2], 3)] == ["a:1", "a:4", "a:5", "a:8"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: chunk_lines("x", 0),
        lambda: chunk_lines("x", 2, 2),
        lambda: chunk_tokens("x", 0),
        lambda: chunk_tokens("x", 10, 6),
        lambda: chunk_tokens("x", 10, -1),
    ],
)
def test_sizes_that_lead_nowhere_are_refused(call) -> None:
    with pytest.raises(ValueError, match="has to be positive"):
        call()


# -------------------------------------------------------------------------------------- headings


def test_headings_of_markdown_outside_fences() -> None:
    text = (
        "intro\n# One #\ntext\n```sh\n# no\n```\n## Two\n~~~~\n# no\n~~~\n# no\n~~~~\n"
        "#tag\nThree\n-----\n    # code\n"
    )
    pieces = chunk_headings(document(text, "a.md"))
    assert names(pieces) == ["", "One", "Two", "Three"]
    assert lines(pieces) == [1, 2, 7, 14]


def test_headings_of_org() -> None:
    text = "#+title: x\n* One\n** Two\n#+begin_src sh\n# no\n,* no\n#+end_src\n*bold* no\n"
    assert names(chunk_headings(document(text, "a.org"))) == ["", "One", "Two"]
    assert names(chunk_headings(text)) == ["", "One", "Two"]
    assert names(chunk_headings("* one\n* two\n")) == [""]  # a list


def test_headings_of_restructured_text() -> None:
    text = "=====\n Top\n=====\n\nText.\n\nPart one\n--------\nx\n\nLonger than it\n---\n"
    pieces = chunk_headings(document(text, "a.rst"))
    assert names(pieces) == ["Top", "Part one"]
    assert lines(pieces) == [1, 7]


# ----------------------------------------------------------------------------------- definitions


def test_definitions_of_python_by_its_parser() -> None:
    text = (
        "import os\n\n# about f\n@deco(\n    1)\ndef f():\n    '''\ndef no(): pass\n    '''\n\n"
        "class C:\n    def m(self): pass\n\nX = 1\nY = 2\n\nasync def g(): pass\n"
    )
    pieces = chunk_code(document(text, "a.py"))
    assert names(pieces) == ["", "f", "C", "", "g"]
    assert lines(pieces) == [1, 3, 11, 14, 17]
    assert pieces[1].startswith("# about f\n@deco")


def test_python_that_does_not_parse_is_cut_by_its_looks() -> None:
    text = "import os\n\ndef f(:\n    pass\n\n# about C\nclass C:\n    x = 1\n"
    pieces = chunk_code(document(text, "a.py"))
    assert names(pieces) == ["", "f", "C"]
    assert lines(pieces) == [1, 3, 6]


def test_definitions_of_lisp_by_parentheses() -> None:
    text = (
        ';;; a.el -*- x -*-\n\n(require \'x)\n\n;; about f\n(defun my-f (x)\n  "Doc (\n(defun no"\n'
        "  ?\\( ?\" (list x))\n\n(defvar v '(\n(a . b)\n))\n(cl-defmethod m ((x y))\n  x)\n"
    )
    pieces = chunk_code(document(text, "a.el"))
    assert names(pieces) == ["", "x", "my-f", "v", "m"]
    assert lines(pieces) == [1, 3, 5, 11, 14]
    unbalanced = "(defun a (\n\n(defun b () 1)\n"
    assert names(chunk_code(document(unbalanced, "a.el"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "a.c",
            "#include <x.h>\n\nstatic int n;\n\n/* The\n   start. */\nint\nmain(void)\n{\n"
            "  return f(n);\n}\n\nstruct point {\n  int x;\n};\n",
            [("", 1), ("main", 5), ("point", 13)],
        ),
        (
            "a.go",
            "package main\n\n// Run runs.\nfunc (s *S) Run(x int) {\n\treturn\n}\n"
            "func g() { x() }\n",
            [("", 1), ("Run", 3), ("g", 7)],
        ),
        (
            "a.rs",
            "use x;\n\n#[derive(Debug)]\npub struct A {\n    x: u8,\n}\n\n"
            "impl A {\n    fn f() {}\n}\n",
            [("", 1), ("A", 3), ("A", 8)],
        ),
        (
            "a.js",
            "const x = 1;\n\nexport async function load(a) {\n  return a;\n}\n\n"
            "const go = (a) => {\n  a();\n};\n",
            [("", 1), ("load", 3), ("go", 7)],
        ),
        ("a.rb", "class A\n  def f\n  end\nend\n\ndef g\n  1\nend\n", [("A", 1), ("g", 6)]),
        ("a.sh", "set -e\n\nrun() {\n  if x; then\n    y\n  fi\n}\n", [("", 1), ("run", 3)]),
    ],
)
def test_definitions_by_their_looks(path: str, text: str, expected: list[tuple[str, int]]) -> None:
    pieces = chunk_code(document(text, path))
    assert [(piece.name, piece.first_line) for piece in pieces] == expected


def test_prose_is_cut_at_its_headings() -> None:
    assert names(chunk_code(document("# A\n\n- x\n  y\n\n# B\n", "a.md"))) == ["A", "B"]
