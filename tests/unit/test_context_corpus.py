from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from context_support import build, make, text_of
from rlm_server.context import mapped
from rlm_server.context.corpus import LINE_CHARACTERS
from rlm_server.context.part import Part
from rlm_server.protocol import FileSource, TextSource, TreeSource


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.text("a\né😀", max_size=12), min_size=1, max_size=4))
async def test_every_line_is_found_by_its_number(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    monkeypatch.setattr(mapped, "_FLUSH", 5)
    texts.append("x")  # a corpus without any text is refused
    sources = [TextSource(text=text, name=str(number)) for number, text in enumerate(texts)]
    corpus = await build(*sources, directory=tmp_path_factory.mktemp("corpus"))
    for document, text in zip(corpus.documents, texts, strict=True):
        assert text_of(corpus, document) == text
        lines = text.removesuffix("\n").split("\n") if text else []
        for number, line in enumerate(lines, 1):
            assert corpus.line(document, number) == line
        assert corpus.line(document, len(lines) + 1) is None
        assert corpus.line(document, 0) is None
    corpus.close()


async def test_lines_have_the_numbers_of_the_file_they_came_from(tmp_path: Path) -> None:
    make(tmp_path, {"spool": "eleven\ntwelve\n"})
    source = FileSource(path=str(tmp_path / "spool"), origin="/p/main.py", first_line=11)
    corpus = await build(source, directory=tmp_path / "corpus")
    document = corpus.documents[0]
    assert [corpus.line(document, n) for n in (10, 11, 12, 13)] == [
        None,
        "eleven",
        "twelve",
        None,
    ]


async def test_a_line_in_a_large_document_is_found_by_reading_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = 400_000
    make(tmp_path, {"a": "".join(f"line {n}\n" for n in range(1, lines + 1)), "b": "é\nlast"})
    corpus = await build(TreeSource(root=str(tmp_path)), directory=tmp_path / ".corpus")
    read: list[int] = []
    slice_ = mapped.MappedText.slice

    def counting(self: mapped.MappedText, start: int, end: int) -> str:
        text = slice_(self, start, end)
        read.append(len(text))
        return text

    monkeypatch.setattr(mapped.MappedText, "slice", counting)
    assert corpus.line(corpus.documents[0], lines - 5) == f"line {lines - 5}"
    assert corpus.line(corpus.documents[1], 2) == "last"
    assert sum(read) < 6 << 20 < corpus.characters * 2


async def test_of_an_endless_line_only_the_beginning_is_given(tmp_path: Path) -> None:
    corpus = await build(TextSource(text="x" * 200_000), directory=tmp_path / "corpus")
    assert corpus.line(corpus.documents[0], 1) == "x" * LINE_CHARACTERS


async def test_a_document_is_found_by_its_path_or_a_unique_end_of_it(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys(["a/x.py", "b/x.py", "b/y.py", "c/b/x.py", "z.py"], "text"))
    corpus = await build(TreeSource(root=str(tmp_path)), directory=tmp_path / ".corpus")

    def path(asked: str) -> str | None:
        document = corpus.find(asked)
        return document.path if document else None

    assert path("b/x.py") == "b/x.py"  # exact, although it ends another
    assert path("y.py") == "b/y.py"
    assert path("./z.py") == "z.py"
    assert path("c/b/x.py") == "c/b/x.py"
    assert [path(p) for p in ("x.py", ".py", "o/x.py", "", "y")] == [None] * 5


async def test_the_head_and_the_tail_are_given(tmp_path: Path) -> None:
    corpus = await build(TextSource(text="begin … end"), directory=tmp_path / "corpus")
    assert (corpus.head(5), corpus.tail(3)) == ("begin", "end")
    assert corpus.head(99) == corpus.tail(99) == "begin … end"
    assert corpus.text(corpus.documents[0], 7) == "begin …"


async def test_closing_removes_everything_and_may_be_repeated(tmp_path: Path) -> None:
    directory = tmp_path / "deep/corpus"
    corpus = await build(TextSource(text="x"), directory=directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in directory.iterdir()) == ["documents.json", "text.bin"]
    corpus.close()
    corpus.close()
    assert not directory.exists()


async def test_closing_leaves_alone_what_is_not_its_own(tmp_path: Path) -> None:
    make(tmp_path, {"corpus/precious": "x"})
    corpus = await build(TextSource(text="x"), directory=tmp_path / "corpus")
    corpus.close()
    assert [p.name for p in (tmp_path / "corpus").iterdir()] == ["precious"]


async def test_nothing_outside_of_a_part_is_given(tmp_path: Path) -> None:
    corpus = await build(TextSource(text="before|inside|after"), directory=tmp_path / "corpus")
    part = Part(corpus, 7, 13, tmp_path / "part.json")
    assert part.slice(-1000, 1000) == part.slice(0, 6) == "inside"
    corpus.close()
