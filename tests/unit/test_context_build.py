from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from context_support import build, make, nobody, text_of
from rlm_server.config import ContextConfig
from rlm_server.context import build as build_module
from rlm_server.context import reading
from rlm_server.context.build import build_corpus, measure
from rlm_server.context.walk import Omitted, Walk
from rlm_server.errors import SourceError
from rlm_server.protocol import FileSource, Overlay, Source, TextSource, TreeSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "tree"
    directory.mkdir()
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


def tree(root: Path, **options: Any) -> TreeSource:
    return TreeSource(root=str(root), **options)


def file(path: Path | str, **options: Any) -> FileSource:
    return FileSource(path=str(path), **options)


# ------------------------------------------------------------------------------------- the text


async def test_a_single_document_is_the_whole_text(target: Path) -> None:
    corpus = await build(TextSource(text="a\nb", name="*scratch*"), directory=target)
    assert corpus.head(99) == "a\nb"
    document = corpus.documents[0]
    assert (document.path, document.uri) == ("*scratch*", "rlm-buffer:*scratch*")
    assert (document.start, document.end, document.bytes) == (0, 3, 3)
    assert (corpus.characters, corpus.bytes) == (3, 3)


async def test_several_documents_have_headers_that_belong_to_none(root: Path, target: Path) -> None:
    make(root, {"a.txt": "one\n", "b/c d.txt": "two", "b/empty": "", "z": "é"})
    corpus = await build(tree(root), directory=target)
    assert corpus.head(999) == (
        "===== a.txt =====\none\n"
        "===== b/c d.txt =====\ntwo\n"
        "===== b/empty =====\n\n"
        "===== z =====\né\n"
    )
    assert [text_of(corpus, d) for d in corpus.documents] == ["one\n", "two", "", "é"]
    assert corpus.documents[1].uri == f"file://{root}/b/c%20d.txt"
    assert json.loads(corpus.index_path.read_bytes()) == {
        "documents": [
            {"path": d.path, "start": d.start, "end": d.end, "firstLine": 1}
            for d in corpus.documents
        ]
    }


async def test_one_text_among_data_is_still_a_single_document(root: Path, target: Path) -> None:
    make(root, {"a.bin": b"\0", "b.txt": "text", "c.bin": b"\0"})
    corpus = await build(tree(root), directory=target)
    assert corpus.head(99) == "text"
    assert corpus.left_out_counts == {"binary": 2}
    assert [(item.path, item.reason) for item in corpus.left_out] == [
        ("a.bin", "binary"),
        ("c.bin", "binary"),
    ]


async def test_encodings_are_decoded_and_line_ends_made_one(root: Path, target: Path) -> None:
    make(
        root,
        {
            "bom": b"\xef\xbb\xbfcaf\xc3\xa9\r\n",
            "latin": b"caf\xe9\r\n" * 9,
            "wide": "café\r\n".encode("utf-16"),
        },
    )
    corpus = await build(tree(root), directory=target)
    assert [text_of(corpus, d) for d in corpus.documents] == ["café\n", "café\n" * 9, "café\n"]
    assert [d.encoding for d in corpus.documents] == ["utf-8", "cp1252", "utf-16-le"]


@pytest.mark.parametrize("chunk", [4, 5, 7])
async def test_a_large_file_is_read_in_pieces(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(reading, "CHUNK", chunk)
    make(root, {"a": "begin é\r\n你\r😀 end", "b": b"caf\xe9 " * 9, "c": "\ufeffx"})
    corpus = await build(tree(root), directory=target)
    assert [text_of(corpus, d) for d in corpus.documents] == [
        "begin é\n你\r😀 end",
        "café " * 9,
        "x",
    ]
    assert corpus.bytes == sum(path.stat().st_size for path in root.iterdir())


async def test_memory_stays_bounded(root: Path, target: Path) -> None:
    line = b"a line of plain text, rather a long one, of which there are many\n"
    with (root / "large").open("wb") as stream:
        for _ in range(64):
            stream.write(line * ((1 << 20) // len(line)))
        stream.write("wide: 😀".encode())
    tracemalloc.start()
    try:
        corpus = await build(tree(root), directory=target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corpus.tail(7) == "wide: 😀"
    assert peak < 32 << 20 < corpus.characters


async def test_a_file_of_the_kernel_is_read_though_it_says_it_is_empty(target: Path) -> None:
    corpus = await build(file("/proc/self/status"), directory=target)
    assert corpus.head(5) == "Name:"


async def test_surrogates_in_a_text_do_no_harm(target: Path) -> None:
    corpus = await build(TextSource(text="a\ud800\r\n", name="n\udc80"), directory=target)
    assert corpus.head(9) == "a\ufffd\n"
    assert corpus.documents[0].path == "n\ufffd"


async def test_the_hash_is_of_paths_and_texts(root: Path, tmp_path: Path) -> None:
    async def hash_of(number: int, *sources: Source) -> str:
        return (await build(*sources, directory=tmp_path / str(number))).hash

    one = TextSource(text="text", name="one")
    first = await hash_of(1, one)
    make(root, {"one": "text"})
    assert await hash_of(2, tree(root)) == first
    assert await hash_of(3, TextSource(text="text", name="two")) != first
    assert await hash_of(4, TextSource(text="other", name="one")) != first
    assert await hash_of(5, one, TextSource(text="", name="two")) != first
    assert len(first) == 64


# -------------------------------------------------------------------------------- paths and URIs


async def test_files_of_one_name_are_told_apart(tmp_path: Path, target: Path) -> None:
    make(tmp_path, dict.fromkeys(["p/a/x.py", "q/a/x.py", "p/y.py"], "text"))
    sources = [file(tmp_path / p) for p in ("p/a/x.py", "q/a/x.py", "p/y.py")]
    corpus = await build(*sources, TextSource(text="t", name="y.py"), directory=target)
    assert [d.path for d in corpus.documents] == ["p/a/x.py", "q/a/x.py", "y.py", "y.py (2)"]


async def test_several_trees_are_told_apart(tmp_path: Path, target: Path) -> None:
    make(tmp_path, dict.fromkeys(["p/src/x", "q/src/x", "lib/x"], "text"))
    sources = [tree(tmp_path / "p/src"), tree(tmp_path / "q/src"), tree(tmp_path / "lib", name="L")]
    corpus = await build(*sources, directory=target)
    assert [d.path for d in corpus.documents] == ["p/src/x", "q/src/x", "L/x"]


async def test_a_named_tree_has_its_name_before_its_paths(root: Path, target: Path) -> None:
    make(root, {"x": "text", "y": b"\0"})
    corpus = await build(tree(root, name="lib"), directory=target)
    assert [d.path for d in corpus.documents] == ["lib/x"]
    assert corpus.left_out[0].path == "lib/y"


async def test_a_spooled_part_goes_by_its_origin(root: Path, target: Path) -> None:
    make(root, {"spool": b"caf\xc3\xa9 \xff\0"})
    part = file(root / "spool", origin="/p/main.py", first_line=7)
    named = file(root / "spool2", origin="rlm-buffer:*mail*")
    make(root, {"spool2": "mail"})
    corpus = await build(part, named, directory=target)
    first, second = corpus.documents
    assert (first.path, first.uri, first.first_line) == ("main.py", "file:///p/main.py", 7)
    assert text_of(corpus, first) == "café \ufffd\0"  # it is UTF-8, and it is text
    assert (second.path, second.uri) == ("*mail*", "rlm-buffer:*mail*")


async def test_names_of_any_bytes_can_be_shown(root: Path, target: Path) -> None:
    make(root, {"a\nb": "1", "a\rb": "2", os.fsdecode(b"\xff"): "3", "é\u202f👩\u200d🔧": "4"})
    corpus = await build(tree(root), directory=target)
    assert [d.path for d in corpus.documents] == [
        "a\ufffdb",
        "a\ufffdb (2)",
        "é\u202f👩\u200d🔧",
        "\ufffd",
    ]
    assert corpus.documents[3].uri == f"file://{root}/%FF"
    assert corpus.head(999).count("\n") == 8


# --------------------------------------------------------------------------- overlays, duplicates


async def test_unsaved_text_stands_in_for_a_file_wherever_it_is_reached(
    root: Path, tmp_path: Path, target: Path
) -> None:
    make(root, {"a.py": "saved", "b.py": "saved", "c.py": "saved"})
    make(tmp_path, {"spool-a": "unsaved a", "spool-b": "unsaved b", "spool-new": "never saved"})
    (tmp_path / "link").symlink_to(root)
    overlays = [
        Overlay(path=str(tmp_path / "link/a.py"), spool=str(tmp_path / "spool-a")),
        Overlay(path=str(root / "b.py"), spool=str(tmp_path / "spool-b")),
        Overlay(path=str(root / "new.py"), spool=str(tmp_path / "spool-new")),
    ]
    sources = [file(root / "b.py"), file(root / "new.py"), tree(root)]
    corpus = await build(*sources, directory=target, overlays=overlays)
    assert {d.path: text_of(corpus, d) for d in corpus.documents} == {
        "b.py": "unsaved b",
        "new.py": "never saved",
        "a.py": "unsaved a",
        "c.py": "saved",
    }
    assert corpus.find("a.py").uri == f"file://{root}/a.py"  # type: ignore[union-attr]


async def test_an_overlay_that_is_gone_does_not_bring_the_saved_text_back(
    root: Path, target: Path
) -> None:
    make(root, {"a": "saved", "b": "saved"})
    overlay = Overlay(path=str(root / "a"), spool=str(root / "nothing"))
    corpus = await build(tree(root), directory=target, overlays=[overlay])
    assert [d.path for d in corpus.documents] == ["b"]
    assert corpus.left_out_counts == {"gone": 1}


async def test_a_file_reached_twice_is_read_once(root: Path, tmp_path: Path, target: Path) -> None:
    make(root, {"a/x": "1", "y": "2"})
    (tmp_path / "link").symlink_to(root / "y")
    sources = [file(tmp_path / "link"), tree(root / "a"), tree(root), file(root / "a/x")]
    corpus = await build(*sources, directory=target)
    assert [d.path for d in corpus.documents] == ["link", "a/x"]


async def test_a_corpus_within_the_tree_does_not_read_itself(root: Path) -> None:
    make(root, {"x": "1", "y": "2"})
    corpus = await build(tree(root), directory=root / ".corpus")
    assert [d.path for d in corpus.documents] == ["x", "y"]
    assert corpus.left_out_counts == {}


# ---------------------------------------------------------------------------------- what is left


async def test_what_cannot_be_read_is_left_out_and_counted(root: Path, target: Path) -> None:
    make(root, {"good": "text", "data": b"\0", "big": "x" * 99, "dir/x": "text"})
    os.mkfifo(root / "pipe")
    names = ["good", "data", "big", "dir", "pipe", "nothing", "good/x", "with\0nul", "bad\ud800"]
    sources = [file(root / name) for name in names]
    trees = [tree(root / "nothing"), tree(root / "good"), tree("t\0")]
    config = ContextConfig(max_file_bytes=50)
    corpus = await build(*sources, *trees, directory=target, config=config)
    assert [d.path for d in corpus.documents] == ["good"]
    assert corpus.left_out_counts == {
        "binary": 1,
        "too large": 1,
        "not a file": 2,
        "gone": 6,
        "not a directory": 1,
    }


async def test_the_first_hundred_are_named_and_all_are_counted(root: Path, target: Path) -> None:
    make(root, {f"{number:03}": b"\0" for number in range(150)} | {"text": "text"})
    corpus = await build(tree(root), directory=target)
    assert corpus.left_out_counts == {"binary": 150}
    assert [item.path for item in corpus.left_out] == [f"{number:03}" for number in range(100)]


async def test_a_large_file_in_a_tree_is_left_out(root: Path, target: Path) -> None:
    make(root, {"big": "x" * 99, "small": "x"})
    config = ContextConfig(max_tree_file_bytes=98)
    corpus = await build(tree(root), directory=target, config=config)
    assert corpus.head(9) == "x"
    assert corpus.left_out_counts == {"too large": 1}


async def test_a_file_that_goes_meanwhile_is_left_out(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {"a": "text", "b": "text"})
    walk = Walk.__iter__

    def walk_and_remove(self: Walk) -> Iterator[Any]:
        for item in walk(self):
            if item.path == "b":
                (root / "b").unlink()
            yield item

    monkeypatch.setattr(Walk, "__iter__", walk_and_remove)
    corpus = await build(tree(root), directory=target)
    assert corpus.left_out_counts == {"gone": 1}


async def test_a_file_without_permission_is_left_out() -> None:
    with nobody() as home:
        make(home, {"tree/closed": "x", "tree/open": "x"})
        (home / "tree/closed").chmod(0)
        corpus = await build(tree(home / "tree"), directory=home / "corpus")
        assert corpus.left_out_counts == {"unreadable": 1}
        with pytest.raises(SourceError, match="can't be read"):
            await build(file(home / "tree/closed"), directory=home / "other")
        corpus.close()


async def test_what_was_read_before_a_fault_stays(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK", 4)
    make(root, {"a": "goodbad"})
    pread = os.pread

    def failing(descriptor: int, size: int, at: int) -> bytes:
        if size == 3 and at == 4:
            raise OSError(errno.EIO, "fault")
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", failing)
    corpus = await build(file(root / "a", origin="/a"), directory=target)
    assert corpus.head(99) == "good"
    assert corpus.left_out_counts == {"unreadable": 1}


# ----------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make_source", "message"),
    [
        (lambda root: file(root / "nothing"), "does not exist"),
        (lambda root: file(root / "data"), "not a text file.*Convert"),
        (lambda root: file(root), "is not a file"),
        (lambda root: file(root / "large"), r"larger than 4 GB .*\[context\] max-file-bytes"),
        (lambda root: file(root / "empty"), "empty"),
        (lambda root: TextSource(text=""), "The text is empty"),
        (lambda root: tree(root / "bin"), "no text; left out: 2 binary"),
        (lambda root: tree(root / "nothing"), "1 gone"),
        (lambda root: tree(root, include=["large"]), r"1 too large \(\[context\] max-tree-"),
    ],
)
async def test_nothing_to_read_is_refused_with_the_reason(
    root: Path, target: Path, make_source: Callable[[Path], Source], message: str
) -> None:
    make(root, {"data": b"\0", "empty": "", "bin/a": b"\0", "bin/b": b"\0"})
    with (root / "large").open("wb") as sparse:
        sparse.truncate(5 << 30)
    with pytest.raises(SourceError, match=message):
        await build(make_source(root), directory=target)
    assert not target.exists()


async def test_no_sources_are_refused(target: Path) -> None:
    with pytest.raises(SourceError, match="No sources"):
        await build(directory=target)


async def test_more_text_than_is_allowed_is_refused(root: Path, target: Path) -> None:
    make(root, {"a": "x" * 60, "b": "x" * 60, "data": b"\0" * 999})
    with pytest.raises(SourceError, match=r"100 bytes.*\[context\] max-bytes"):
        await build(tree(root), directory=target, config=ContextConfig(max_bytes=100))
    assert not target.exists()


async def test_text_that_grows_too_wide_is_refused(root: Path, target: Path) -> None:
    make(root, {"a": "x" * 60 + "😀"})
    with pytest.raises(SourceError, match=r"244 bytes.*200 bytes \(\[context\] max-bytes\)"):
        await build(tree(root), directory=target, config=ContextConfig(max_bytes=200))
    assert not target.exists()


@pytest.mark.parametrize("size", [10, 40 << 20])
async def test_a_full_disk_is_noticed_before_it_is_filled(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    make(root, {"a": b"x" * size})
    free = SimpleNamespace(f_bavail=(64 << 20) + size // 2, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    with pytest.raises(SourceError, match=r"no room.*RLM_CACHE"):
        await build(tree(root), directory=target)
    assert not target.exists()


@pytest.mark.parametrize("sizes", [[40 << 20], [10, 40 << 20], [10, 10, 40 << 20]])
async def test_no_file_stays_open_where_the_disk_is_too_full(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    make(root, {f"f{n}": b"x" * size for n, size in enumerate(sizes)})
    free = SimpleNamespace(f_bavail=64 << 20, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    with pytest.raises(SourceError, match="no room"):
        await build(tree(root), directory=target)
    open_now = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    assert [path for path in open_now if path.startswith(str(root))] == []


async def test_a_disk_that_fails_is_told(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {"a": "x"})

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(SourceError, match=r"can't be written.*No space left"):
        await build(tree(root), directory=target)
    assert not target.exists()


async def test_a_directory_in_use_is_refused_and_left_alone(target: Path) -> None:
    corpus = await build(TextSource(text="x"), directory=target)
    with pytest.raises(SourceError, match="holds a context already"):
        await build(TextSource(text="y"), directory=target)
    assert corpus.head(9) == "x"
    assert corpus.text_path.exists()


# ------------------------------------------------------------------------------------ the loop


async def test_the_loop_runs_on_while_thousands_of_files_are_read(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number % 50}/{number}.txt": f"text {number}\n" * 5 for number in range(3000)}
    make(root, files)
    threads: set[int] = set()
    for name in ("scandir", "open", "read", "pread", "pwrite", "stat"):
        real = getattr(os, name)

        def noted(*arguments: Any, _real: Any = real, **options: Any) -> Any:
            threads.add(threading.get_ident())
            return _real(*arguments, **options)

        monkeypatch.setattr(os, name, noted)
    monkeypatch.setattr(build_module, "PROGRESS_SECONDS", 0.0)
    turns = 0
    stop = False

    async def count_turns() -> None:
        nonlocal turns
        while not stop:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    seen: list[tuple[int, int, int]] = []
    corpus = await build_corpus(
        [tree(root)],
        [],
        directory=target,
        config=ContextConfig(),
        on_progress=lambda *figures: seen.append((*figures, threading.get_ident())),
    )
    stop = True
    await counting
    assert threads
    assert threading.get_ident() not in threads
    assert turns > 100
    assert len(corpus.documents) == 3000
    assert {thread for *_, thread in seen} == {threading.get_ident()}
    assert seen == sorted(seen)
    assert len(seen) > 1000
    assert text_of(corpus, corpus.documents[1234]) == files[corpus.documents[1234].path]


async def test_progress_is_told_no_more_often_than_is_good() -> None:
    now = 0.0
    told: list[tuple[int, int]] = []
    watch = build_module._Watch(lambda *figures: told.append(figures), clock=lambda: now)
    for step in range(100):
        now = 5 + step / 64
        watch.progress(step, step)
    await asyncio.sleep(0)
    gaps = [after[0] - before[0] for before, after in pairwise(told)]
    assert told[0] == (0, 0)
    assert set(gaps) == {7}


async def test_cancelling_stops_the_thread_and_removes_its_files(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {"a": "text", "b": "text"})
    loop = asyncio.get_running_loop()
    running = asyncio.Event()
    threads: list[threading.Thread] = []
    enter = Walk._enter

    def endless(self: Walk, directory: Any) -> Iterator[Any]:
        yield from enter(self, directory)
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(running.set)
        while True:
            yield Omitted("more", "ignored")

    monkeypatch.setattr(Walk, "_enter", endless)
    task = asyncio.create_task(build(tree(root), directory=target))
    await running.wait()
    assert target.exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    threads[0].join(timeout=30)
    assert not threads[0].is_alive()
    assert not target.exists()


async def test_cancelling_does_not_wait_for_a_disk_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build_module, "_STOP_SECONDS", 0.01)
    released, abandoned = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    watch = build_module._Watch(None)

    def hang() -> str:
        released.wait()
        return "late"

    def abandon(result: str) -> None:
        assert result == "late"
        loop.call_soon_threadsafe(abandoned.set)

    task = asyncio.create_task(build_module._in_thread(hang, watch, abandon=abandon))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watch.stop.is_set()
    assert not abandoned.is_set()
    released.set()
    await abandoned.wait()


# ----------------------------------------------------------------------------------- estimates


async def test_measuring_gives_what_building_will_without_opening_a_document(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {"a": "text", "b/c": "é", ".ignore": "out/", "out/x": "", "pic.PNG": b"\x89PNG\r\n"})
    make(root, {"spool": "unsaved", "big": "x" * 99})
    sources = [tree(root, exclude=["spool"]), TextSource(text="é"), file(root / "nothing")]
    overlays = [Overlay(path=str(root / "a"), spool=str(root / "spool"))]
    config = ContextConfig(max_tree_file_bytes=50)
    corpus = await build(*sources, directory=target, overlays=overlays, config=config)

    def opened(*_: object) -> int:
        raise AssertionError("a document was opened")

    monkeypatch.setattr(reading, "_open", opened)
    measured = await measure(sources, overlays, config=config)
    assert measured.documents == len(corpus.documents) == 4
    assert measured.bytes == corpus.bytes
    assert measured.left_out_counts == corpus.left_out_counts
    assert measured.left_out_counts == {
        "ignored": 1,
        "binary": 1,
        "excluded": 1,
        "too large": 1,
        "gone": 1,
    }
