from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.sandbox.grep import grep
from vocabulary_support import context, document

DOCS = {"a.py": "import os\nx = 1\nprint(x)\n", "sub/b.py": "x = 2\n\ny = x", "empty": ""}
TEXT = st.text(st.sampled_from("ab x\n\u20ac\u0130"), max_size=60)
PATTERNS = ["a", "^a", "b$", "a.*b", "[^b]", r"\s", "x*", r"^\s*$", "a|^b", r"a\s+b", r"(?i)A", "$"]


def test_a_line_names_its_place() -> None:
    found = grep("x", context(DOCS))
    assert list(found) == [
        "a.py:2: x = 1",
        "a.py:3: print(x)",
        "sub/b.py:1: x = 2",
        "sub/b.py:3: y = x",
    ]
    last = found[-1]
    assert (last.path, last.line, last.text, last.offset) == ("sub/b.py", 3, "y = x", 11)
    assert last.document == DOCS["sub/b.py"]
    assert last.document[last.offset] == "x"
    assert repr(found).splitlines() == list(found)
    assert repr(grep("nowhere", context(DOCS))) == "[]"


def test_the_headers_between_documents_are_not_looked_at() -> None:
    assert list(grep("=====|sub/b", context(DOCS))) == []


@given(st.dictionaries(st.sampled_from("pqrs"), TEXT, min_size=1), st.sampled_from(PATTERNS))
def test_finds_what_a_loop_over_the_lines_finds(documents: dict[str, str], pattern: str) -> None:
    expected = []
    for path, text in documents.items():
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        expected += [
            f"{path}:{number}: {line}"
            for number, line in enumerate(lines, 1)
            if re.search(pattern, line)
        ]
    assert list(grep(pattern, context(documents))) == expected


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"line {n} of {n % 7}\n" for n in range(200))
    whole = list(grep(r"of 3$|\b1\d\b", document(text)))
    monkeypatch.setattr("rlm_server.sandbox.grep._BLOCK", 10)
    assert list(grep(r"of 3$|\b1\d\b", document(text))) == whole
    assert len(whole) == 37


def test_a_limit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    found = grep("a", "a\n" * 300)
    assert len(found) == 200
    assert found.cut
    assert "stopped at 200 lines" in capsys.readouterr().out
    assert repr(found).endswith("(there are more)")
    everything = grep("a", "a\n" * 300, limit=None)
    assert (len(everything), everything.cut) == (300, False)
    assert not grep("a", "a\n" * 200).cut
    assert capsys.readouterr().out == ""


def test_lines_around() -> None:
    found = grep("c|e", document("a\nb\nc\nd\ne\n", "p", 11), context_lines=1)
    assert list(found) == ["p-12- b\np:13: c\np-14- d", "p-14- d\np:15: e"]
    assert grep("a", "a\nb\nc\nd", context_lines=2) == ["text:1: a\ntext-2- b\ntext-3- c"]


def test_a_pattern_may_cross_lines_when_it_says_so() -> None:
    text = "def f(\n  x\n):\n  pass\ndef g(): pass\n"
    assert [hit.text for hit in grep(r"def \w+\([^)]*\n[^)]*\)", text)] == ["def f(\n  x\n):"]
    assert [hit.line for hit in grep(r"(?s)f.*x", text)] == [1]
    assert [hit.line for hit in grep(re.compile("F", re.I), text)] == [1, 5]


def test_a_long_line_is_cut_around_the_place() -> None:
    [hit] = grep("needle", "x" * 50_000 + "needle" + "y" * 50_000)
    assert len(hit) < 1100
    assert "needle" in hit.text
    assert hit.offset == 50_000


def test_looks_within_what_it_is_given() -> None:
    docs = context(DOCS).documents
    assert grep("x", docs.glob("sub/*")) == ["sub/b.py:1: x = 2", "sub/b.py:3: y = x"]
    assert grep("x", [docs[1]]) == grep("x", docs["sub/b.py"])
    assert grep("X", "x", ignore_case=True) == ["text:1: x"]
    assert grep("x", ["a", "x"]) == ["text[1]:1: x"]
    assert grep("x", (d for d in docs)) == grep("x", docs)
    with pytest.raises(TypeError, match="within"):
        grep("x", 5)
    with pytest.raises(TypeError, match="within"):
        grep("x", [5])
    with pytest.raises(re.error):
        grep("(", "x")
