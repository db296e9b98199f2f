from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from rlm_server.sandbox import mapped_text
from sandbox_support import bench, corpus_files

TEXTS = {
    "ascii": "hello world\nsecond line about x=42\n",
    "latin": "caf\xe9 na\xefve\nline two\n",
    "wide": "\u20ac price \u4f60\u597d\nzwei\n",
    "emoji": "emoji \U0001f600 here\nand more\n",
}


@pytest.mark.parametrize("base", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("times", [1, 3000])
def test_a_mapped_text_is_a_str_in_every_respect(tmp_path: Path, base: str, times: int) -> None:
    expected = base * times
    files = corpus_files(tmp_path, {"only": expected})
    with files.text_path.open("rb") as text_file, files.index_path.open("rb") as index_file:
        text, copied = mapped_text.open_context(text_file.fileno(), index_file.fileno())
    assert not copied
    assert isinstance(text, str)
    assert text == expected
    assert expected == text
    assert hash(text) == hash(expected)
    assert {text: 1}[expected] == 1
    assert len(text) == len(expected)
    assert text[5:300] == expected[5:300]
    assert text[::7] == expected[::7]
    assert text.split("\n") == expected.split("\n")
    assert text.splitlines() == expected.splitlines()
    assert text.encode() == expected.encode()
    assert text.replace("e", "E").upper() == expected.replace("e", "E").upper()
    assert json.loads(json.dumps(text)) == expected
    assert "".join(text) == expected
    assert f"{text}x" == expected + "x"
    assert text.isascii() == expected.isascii()
    assert str(text) == expected
    assert text.documents[0] == expected


def test_without_mapping_the_text_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped_text, "_works", False)
    files = corpus_files(tmp_path, TEXTS)
    with files.text_path.open("rb") as text_file, files.index_path.open("rb") as index_file:
        text, copied = mapped_text.open_context(text_file.fileno(), index_file.fileno())
    assert copied
    assert [str(document) for document in text.documents] == list(TEXTS.values())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    files = corpus_files(tmp_path, {"only": "x" * 100})
    os.truncate(files.text_path, 4100)
    with (
        files.text_path.open("rb") as text_file,
        files.index_path.open("rb") as index_file,
        pytest.raises(ValueError, match="damaged"),
    ):
        mapped_text.open_context(text_file.fileno(), index_file.fileno())


async def test_an_empty_context(tmp_path: Path) -> None:
    async with bench(tmp_path, {"empty": ""}) as b:
        assert await b.ok("print(repr(context), len(context.documents[0]))") == "'' 0\n"


@pytest.mark.parametrize("base", TEXTS.values(), ids=TEXTS)
async def test_documents_know_where_they_come_from(tmp_path: Path, base: str) -> None:
    documents = {"a.py": "one\n" * 1000, "sub/b.py": base * 200, "c": "no newline"}
    async with bench(tmp_path, documents) as b:
        out = await b.ok(
            "d = context.documents\n"
            "print(len(d), d.paths(), [len(x) for x in d])\n"
            "print(d[1].path, d[-1].path, d['c'] == 'no newline', {d[2]: 1}['no newline'])\n"
            "print(all(context[x.start:x.start + len(x)] == x for x in d))\n"
            "print(d[0].line_at(0), d[0].line_at(4), d[0].first_line, d.at(d[1].start + 3).path)\n"
            "print([x.path for x in d[1:]])"
        )
        assert out.splitlines() == [
            f"3 ['a.py', 'sub/b.py', 'c'] [4000, {len(base) * 200}, 10]",
            "sub/b.py c True 1",
            "True",
            "1 2 1 sub/b.py",
            "['sub/b.py', 'c']",
        ]


async def test_the_context_can_not_be_changed(tmp_path: Path) -> None:
    async with bench(tmp_path, {"a": "text " * 1000}) as b:
        result = await b.run(
            "import ctypes\n"
            "at = ctypes.c_size_t.from_address(id(context) + str.__basicsize__ - 8).value\n"
            "ctypes.memset(at, 0, 1)"
        )
        assert result.status == "died"
        assert await b.ok("print(context[:4])") == "text\n"


async def test_fifty_thousand_documents_cost_nothing_at_the_start(tmp_path: Path) -> None:
    documents = {f"dir{n // 100}/file{n}.txt": f"content {n}\n" for n in range(50_000)}
    async with bench(tmp_path, documents) as b:
        # The index is not even parsed before it is needed.
        assert await b.ok("print(context.documents._raw is not None)") == "True\n"
        begun = time.process_time()
        assert await b.ok("print(len(context.documents), context.documents[49_999])") == (
            "50000 content 49999\n\n"
        )
        assert time.process_time() - begun < 1.0


async def test_showing_a_large_context_is_short(tmp_path: Path) -> None:
    async with bench(tmp_path, {"a": "x" * 1_000_000}) as b:
        out = await b.ok("context")
        assert len(out) < 400
        assert "1,000,000 characters" in out
