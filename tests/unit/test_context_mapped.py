from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlm_server.context import mapped
from rlm_server.context.mapped import HEADER, PAGE, MappedText, MappedWriter
from rlm_server.sandbox import mapped_text

CHARACTERS = st.sampled_from("ab\n\0é\xffЖ你\uffff\U00010000😀")
TEXTS = st.lists(st.text(CHARACTERS, max_size=40), max_size=8)
per_test = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[1, 3, 1 << 20])
def flush(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Write, widen and scan in pieces of so many characters."""
    monkeypatch.setattr(mapped, "_FLUSH", request.param)
    return int(request.param)


def written(path: Path, texts: list[str]) -> MappedText:
    path.unlink(missing_ok=True)
    writer = MappedWriter(path)
    for text in texts:
        writer.write(text)
    writer.finish()
    return MappedText(path, writer.lines)


@per_test
@given(texts=TEXTS, more=st.text(max_size=20))
@example(texts=["ascii", "é", "Ж", "😀"], more="")
@example(texts=[], more="")
def test_any_text_comes_back_in_the_narrowest_width(
    tmp_path: Path, flush: int, texts: list[str], more: str
) -> None:
    whole = "".join([*texts, more])
    path = tmp_path / "text"
    text = written(path, [*texts, more])
    widest = ord(max(whole, default="a"))
    assert text.width == (1 if widest < 0x100 else 2 if widest < 0x10000 else 4)
    assert text.ascii == whole.isascii()
    assert text.characters == len(whole)
    assert text.slice(0, len(whole) + 5) == whole
    assert text.slice(2, 9) == whole[2:9]
    text.close()
    size = path.stat().st_size
    assert size % PAGE == 0
    end = HEADER + len(whole) * text.width
    assert path.read_bytes()[end:] == bytes(size - end)
    assert size - end >= 4


@per_test
@given(texts=TEXTS)
def test_lines_are_found_as_by_counting(tmp_path: Path, flush: int, texts: list[str]) -> None:
    whole = "".join(texts)
    text = written(tmp_path / "text", texts)
    starts = [0] + [at + 1 for at, character in enumerate(whole) if character == "\n"]
    assert [text.line_start(number) for number in range(len(starts))] == starts
    assert text.line_start(len(starts)) is None
    for offset in range(len(whole) + 1):
        assert text.newlines_before(offset) == whole.count("\n", 0, offset)
    text.close()


def test_a_line_is_found_in_a_long_piece(tmp_path: Path) -> None:
    text = written(tmp_path / "text", [("x" * 70 + "\n") * 10_000 + "\n" * 10_000])
    assert text.line_start(9_999) == 71 * 9_999
    assert text.line_start(15_000) == 71 * 10_000 + 5_000
    text.close()


@pytest.mark.parametrize("end", ["", "é", "Ж", "😀"])
def test_the_sandbox_reads_it_as_the_same_string(tmp_path: Path, end: str) -> None:
    whole = "line\n" * 1000 + end
    written(tmp_path / "text", [whole]).close()
    (tmp_path / "index").write_text('{"documents": []}')
    with (tmp_path / "text").open("rb") as text, (tmp_path / "index").open("rb") as index:
        context, _ = mapped_text.open_context(text.fileno(), index.fileno())
    assert context == whole
    assert whole == context


def test_growth_is_announced_before_it_happens(tmp_path: Path) -> None:
    path = tmp_path / "text"
    announced: list[tuple[int, int]] = []

    def grow(size: int, more: int) -> None:
        assert path.stat().st_size <= HEADER + size
        announced.append((size, more))

    writer = MappedWriter(path, grow=grow)
    writer.write("a" * (1 << 20))
    writer.write("😀" * (1 << 20))
    writer.finish()
    megabyte = 1 << 20
    assert announced == [
        (megabyte, megabyte),
        (4 * megabyte, 3 * megabyte),
        (8 * megabyte, 4 * megabyte),
    ]


def test_the_file_is_private_and_never_another_one(tmp_path: Path) -> None:
    MappedWriter(tmp_path / "text").finish()
    assert (tmp_path / "text").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        MappedWriter(tmp_path / "text")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"something else" * 999,
        struct.pack("<8sBB6xQ", b"RLMCTX01", 1, 1, 99).ljust(HEADER + 50),
        struct.pack("<8sBB6xQ", b"RLMCTX01", 3, 1, 1).ljust(HEADER + 50),
    ],
)
def test_another_file_is_refused_and_closed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    before = open_files()
    with pytest.raises(ValueError, match="not a mapped text"):
        MappedText(tmp_path / "text")
    assert open_files() == before
