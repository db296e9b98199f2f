from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from context_support import make, nobody
from engine_harness import final, play
from rlm_server.config import Config, ContextConfig
from rlm_server.context import assembly, entry
from rlm_server.context.build import build_corpus
from rlm_server.context.corpus import INDEX, TEXT, Corpus
from rlm_server.context.part import Part
from rlm_server.context.store import KEEP_SECONDS, Store, open_store
from rlm_server.doors.kept import cache_command
from rlm_server.errors import SourceError
from rlm_server.protocol import FileSource, Overlay, Source, TextSource, TreeSource

Ask = Callable[..., Awaitable[Corpus]]


def later() -> float:
    """A clock by which the files that a test has just written are not young."""
    return time.time() + 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "tree"
    make(directory, {"a.txt": "one\n", "b/c.txt": "two", "d.bin": b"\0\1\2", "e.log": "log"})
    return directory


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "prepared", 1 << 30, least=0, clock=later)


@pytest.fixture
def ask(tmp_path: Path, store: Store) -> Ask:
    """Build in a directory of its own, as each run does."""

    async def build(
        *sources: Source,
        overlays: list[Overlay] | None = None,
        store: Store = store,
        config: ContextConfig | None = None,
    ) -> Corpus:
        ask.count += 1  # type: ignore[attr-defined]
        return await build_corpus(
            sources,
            overlays or [],
            directory=tmp_path / "runs" / str(ask.count),  # type: ignore[attr-defined]
            config=config or ContextConfig(),
            on_progress=lambda documents, count: None,
            store=store,
        )

    ask: Any = build
    ask.count = 0
    return build


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened to be read."""
    opened: list[str] = []
    real = assembly.TextFile

    def text_file(path: str, **options: Any) -> assembly.TextFile:
        opened.append(Path(path).name)
        return real(path, **options)

    monkeypatch.setattr(assembly, "TextFile", text_file)
    return opened


def tree(root: Path, **options: Any) -> TreeSource:
    return TreeSource(root=str(root), **options)


def told(corpus: Corpus) -> dict[str, Any]:
    """All that a corpus says of itself."""
    names = ("documents", "characters", "bytes", "hash", "left_out", "left_out_counts")
    return {
        **{name: getattr(corpus, name) for name in names},
        "text": corpus.slice(0, corpus.characters),
        "index": json.loads(corpus.index_path.read_bytes()),
        "lines": [corpus.line(document, 1) for document in corpus.documents],
        "mapped": corpus.text_path.read_bytes(),
    }


async def test_unchanged_sources_are_not_read_again(
    root: Path, store: Store, ask: Ask, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await ask(tree(root))
    assert first.left_out_counts == {"binary": 1}
    assert sorted(reads) == ["a.txt", "c.txt", "d.bin", "e.log"]
    expected = told(first)
    first.close()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(assembly, "TextFile", refuse)
    again = await ask(tree(root))
    assert told(again) == expected
    assert again.directory.parent == store.directory
    again.close()


async def test_what_is_kept_is_for_the_owner_alone(root: Path, store: Store, ask: Ask) -> None:
    (await ask(tree(root))).close()
    for directory in (store.directory, store.directory / "keys", *store.entries()):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not [path for path in store.directory.iterdir() if path.name.startswith(".")]


async def test_the_runs_directory_is_there_while_the_corpus_is_open(
    root: Path, tmp_path: Path, ask: Ask
) -> None:
    for number in ("1", "2"):
        corpus = await ask(tree(root))
        own = tmp_path / "runs" / number
        assert own.stat().st_mode & 0o777 == 0o700
        part = Part(corpus, 0, 5, own / "child-1.json")
        assert part.index_path.exists()
        part.close()
        corpus.close()
        assert not own.exists()
        assert corpus.text_path.exists()
        corpus.close()


def rewrite(root: Path) -> None:
    (root / "a.txt").write_text("ONE\n")


def restore_times(root: Path) -> None:
    """The size and the time of the last change are as they were, only the text is not."""
    info = (root / "a.txt").stat()
    rewrite(root)
    os.utime(root / "a.txt", ns=(info.st_atime_ns, info.st_mtime_ns))


def replace_file(root: Path) -> None:
    info = (root / "a.txt").stat()
    (root / "new").write_text("ONE\n")
    os.utime(root / "new", ns=(info.st_atime_ns, info.st_mtime_ns))
    (root / "new").replace(root / "a.txt")


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        restore_times,
        replace_file,
        lambda root: (root / "a.txt").write_text("one\nmore\n"),
        lambda root: (root / "a.txt").unlink(),
        lambda root: (root / "new.txt").write_text("new"),
        lambda root: (root / ".ignore").write_text("*.log\n"),
        lambda root: (root / "a.txt").rename(root / "z.txt"),
    ],
)
async def test_changed_sources_are_read_again(
    root: Path, store: Store, ask: Ask, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    (await ask(tree(root))).close()
    change(root)
    corpus = await ask(tree(root))
    fresh = await ask(tree(root), store=Store(tmp_path / "other", 1 << 30, least=0))
    assert told(corpus) == told(fresh)
    corpus.close()
    fresh.close()
    assert len(store.entries()) == 2


async def test_another_time_of_change_is_read_again_but_kept_once(
    root: Path, store: Store, ask: Ask, reads: list[str]
) -> None:
    (await ask(tree(root))).close()
    reads.clear()
    os.utime(root / "a.txt", (1, 1))
    (await ask(tree(root))).close()
    assert "a.txt" in reads
    assert len(store.entries()) == 1


async def test_globs_names_and_limits_matter(root: Path, ask: Ask) -> None:
    asked: list[tuple[Source, list[str]]] = [
        (tree(root), ["a.txt", "b/c.txt", "e.log"]),
        (tree(root, exclude=["*.log"]), ["a.txt", "b/c.txt"]),
        (tree(root, include=["*.log"]), ["e.log"]),
        (tree(root, name="p"), ["p/a.txt", "p/b/c.txt", "p/e.log"]),
        (FileSource(path=str(root / "a.txt")), ["a.txt"]),
    ]
    for _ in range(2):
        for source, paths in asked:
            corpus = await ask(source)
            assert [document.path for document in corpus.documents] == paths
            corpus.close()
    with pytest.raises(SourceError):
        await ask(tree(root), config=ContextConfig(max_bytes=5))


async def test_the_same_text_of_another_origin_keeps_its_origin(tmp_path: Path, ask: Ask) -> None:
    make(tmp_path, {"spool": "text\n"})
    spool = str(tmp_path / "spool")
    for line in (1, 7, 1, 7):
        source = FileSource(path=spool, name="n", origin="/p/main.py", first_line=line)
        corpus = await ask(source)
        assert corpus.line(corpus.documents[0], line) == "text"
        corpus.close()


async def test_spools_and_overlays_are_known_by_what_they_hold(
    root: Path, tmp_path: Path, ask: Ask, reads: list[str]
) -> None:
    make(tmp_path, {"s1": "unsaved", "s2": "unsaved", "s3": "UNSAVED"})
    hits = []
    for name in ("s1", "s2", "s3"):
        overlay = Overlay(path=str(root / "a.txt"), spool=str(tmp_path / name))
        reads.clear()
        corpus = await ask(tree(root), overlays=[overlay])
        hits.append(not reads)
        found = corpus.find("a.txt")
        assert found is not None
        assert corpus.text(found, 99) == (tmp_path / name).read_text()
        corpus.close()
    assert hits == [False, True, False]
    (await ask(tree(root))).close()
    assert "a.txt" in reads


async def test_inline_texts_are_known_by_what_they_hold(store: Store, ask: Ask) -> None:
    for text in ("a", "b", "a"):
        corpus = await ask(TextSource(text=text))
        assert corpus.head(9) == text
        corpus.close()
    assert len(store.entries()) == 2


@pytest.mark.parametrize("ahead", [0.0, 1.9])
async def test_a_file_that_has_just_changed_is_not_trusted(
    root: Path, tmp_path: Path, ask: Ask, reads: list[str], ahead: float
) -> None:
    written = max(path.stat().st_ctime for path in root.rglob("*"))
    racy = Store(tmp_path / "racy", 1 << 30, least=0, clock=lambda: written + ahead)
    (await ask(tree(root), store=racy)).close()
    reads.clear()
    (await ask(tree(root), store=racy)).close()
    assert "a.txt" in reads


async def test_what_changes_while_it_is_read_is_not_trusted(
    root: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file comes and goes meanwhile: before and after, all looks the same."""
    real = assembly.Assembly.run

    def run(self: assembly.Assembly) -> Corpus:
        (root / "extra.txt").write_text("extra")
        try:
            return real(self)
        finally:
            (root / "extra.txt").unlink()

    monkeypatch.setattr(assembly.Assembly, "run", run)
    (await ask(tree(root))).close()
    monkeypatch.undo()
    corpus = await ask(tree(root))
    assert corpus.find("extra.txt") is None
    corpus.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
async def test_a_file_whose_size_is_not_what_it_holds_is_not_trusted(
    ask: Ask, reads: list[str]
) -> None:
    for _ in range(2):
        reads.clear()
        (await ask(FileSource(path="/proc/self/status"))).close()
        assert reads == ["status"]


def shorten(place: Path) -> None:
    os.truncate(place / TEXT, 4100)


@pytest.mark.parametrize(
    "damage",
    [
        shorten,
        lambda place: (place / TEXT).unlink(),
        lambda place: (place / INDEX).write_text("{}"),
        lambda place: (place / entry.ABOUT).write_text("{"),
        lambda place: (place / entry.ABOUT).unlink(),
        lambda place: (place / entry.LOCK).unlink(),
        lambda place: shutil.rmtree(place),
        lambda place: (place / TEXT).write_bytes(bytes((place / TEXT).stat().st_size)),
    ],
)
async def test_a_damaged_entry_is_made_anew(
    root: Path, store: Store, ask: Ask, reads: list[str], damage: Callable[[Path], object]
) -> None:
    first = await ask(tree(root))
    expected = told(first)
    first.close()
    damage(store.entries()[0])
    reads.clear()
    corpus = await ask(tree(root))
    assert reads
    assert told(corpus) == expected
    assert corpus.directory.parent == store.directory
    corpus.close()
    reads.clear()
    (await ask(tree(root))).close()
    assert not reads


async def test_a_damaged_entry_in_use_is_left_alone(root: Path, store: Store, ask: Ask) -> None:
    first = await ask(tree(root))
    expected = told(first)
    shorten(first.directory)
    second = await ask(tree(root))
    assert second.directory.parent != store.directory
    assert told(second) == expected
    second.close()
    first.close()


async def test_entries_of_another_reader_or_key_files_of_others_are_not_used(
    root: Path, store: Store, ask: Ask, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (await ask(tree(root))).close()
    for key in (store.directory / "keys").iterdir():
        key.write_text("../../tree")
    reads.clear()
    (await ask(tree(root))).close()
    assert reads
    reads.clear()
    monkeypatch.setattr(entry, "READER", ("0", "0", "little"))
    (await ask(tree(root))).close()
    assert reads


async def test_after_a_crash_of_the_machine_only_what_was_on_the_disk_counts(
    root: Path, store: Store, ask: Ask, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (await ask(tree(root))).close()
    reads.clear()
    monkeypatch.setattr(entry, "_boot", lambda: "the next")
    (await ask(tree(root))).close()
    assert reads
    reads.clear()
    os.utime(store.entries()[0] / entry.ABOUT, (1, 1))
    (await ask(tree(root))).close()  # marks it, since it has been there for long
    monkeypatch.setattr(entry, "_boot", lambda: "the one after")
    (await ask(tree(root))).close()
    assert not reads


async def test_those_not_used_for_longest_make_room(store: Store, ask: Ask) -> None:
    async def keep(text: str, used: int) -> None:
        corpus = await ask(TextSource(text=text))
        corpus.close()
        os.utime(corpus.directory / entry.LOCK, (now + used, now + used))

    now = int(time.time())
    await keep("a", 1)
    store.limit = 3 * store.size()
    await keep("b", 2)
    await keep("c", 3)
    await keep("a", 4)
    await keep("d", 5)
    texts = []
    for place in store.entries():
        corpus = entry.open_entry(place, lambda: None)
        assert corpus is not None
        texts.append(corpus.head(1))
        corpus.close()
    assert sorted(texts) == ["a", "c", "d"]
    assert store.size() <= store.limit


async def test_what_is_in_use_is_never_removed(store: Store, ask: Ask) -> None:
    used = await ask(TextSource(text="used"))
    same = await ask(TextSource(text="used"))
    store.limit = store.size() + 10
    other = await ask(TextSource(text="other"))
    assert other.directory.parent != store.directory  # there is no room, and it works all the same
    other.close()
    assert store.clear() == 0
    used.close()
    assert store.clear() == 0
    assert same.head(9) == "used"
    same.close()
    assert store.clear() == 1
    assert store.entries() == []
    assert list((store.directory / "keys").iterdir()) == []


async def test_what_was_not_used_for_a_month_goes(
    tmp_path: Path, store: Store, ask: Ask, root: Path
) -> None:
    (await ask(tree(root))).close()
    old = await ask(TextSource(text="old"))
    for place in store.entries():
        os.utime(place / entry.LOCK, (later() - KEEP_SECONDS - 9,) * 2)
    (store.directory / ".new-left").mkdir()
    os.utime(store.directory / ".new-left", (1, 1))
    store.tidy()
    assert store.entries() == [old.directory]
    assert not (store.directory / ".new-left").exists()
    old.close()


async def test_a_full_disk_gets_room_from_what_is_kept(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    (await ask(TextSource(text="kept"))).close()
    monkeypatch.setattr(
        assembly.Disk, "_free", lambda self: 0 if store.entries() else assembly.RESERVE << 1
    )
    corpus = await ask(TextSource(text="new"))
    assert corpus.head(9) == "new"
    assert store.entries() == [corpus.directory]
    corpus.close()


async def test_small_contexts_and_a_switched_off_store_keep_nothing(
    root: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    (await ask(tree(root), store=Store(tmp_path / "prepared", 1 << 30))).close()
    assert not (tmp_path / "prepared").exists()
    monkeypatch.setenv("RLM_CACHE", str(tmp_path))
    assert open_store(ContextConfig(cache_bytes=0)) is None
    kept = open_store(ContextConfig(cache_bytes=5))
    assert kept is not None
    assert (kept.directory, kept.limit) == (tmp_path / "prepared", 5)


async def test_a_store_that_cant_be_written_is_done_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with nobody() as directory:
        (directory / "prepared").mkdir()
        (directory / "prepared").chmod(0o500)
        store = Store(directory / "prepared" / "in", 1 << 30, least=0)
        corpus = await build_corpus(
            [TextSource(text="text")],
            [],
            directory=directory / "run",
            config=ContextConfig(),
            on_progress=lambda documents, count: None,
            store=store,
        )
        assert corpus.head(9) == "text"
        corpus.close()
        assert not (directory / "run").exists()
    assert "can't be kept" in caplog.text


async def test_a_cancelled_build_leaves_nothing(
    root: Path, tmp_path: Path, store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: asyncio.Task[Corpus]
    loop = asyncio.get_running_loop()
    real = assembly.Assembly.run

    def run(self: assembly.Assembly) -> Corpus:
        loop.call_soon_threadsafe(task.cancel)
        while True:
            self._checkpoint()
        return real(self)

    monkeypatch.setattr(assembly.Assembly, "run", run)
    task = asyncio.ensure_future(ask(tree(root)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.entries() == []
    assert list((tmp_path / "runs").iterdir()) == []


async def test_the_command_that_clears_the_cache_removes_what_is_not_in_use(
    tmp_path: Path,
    store: Store,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RLM_CACHE", str(tmp_path))
    used = await ask(TextSource(text="used"))
    (await ask(TextSource(text="not used"))).close()
    await cache_command(Config(), "clear")
    assert capsys.readouterr().out.endswith("1 prepared context removed.\n")
    assert store.entries() == [used.directory]
    used.close()


async def test_runs_use_what_earlier_ones_have_prepared(
    root: Path, tmp_path: Path, store: Store, reads: list[str]
) -> None:
    for number in ("1", "2"):
        reads.clear()
        own = tmp_path / number
        own.mkdir()
        replies = [final("context.documents[0] + str(len(context.documents))")]
        played = await play(own, replies, sources=[tree(root)], store=store)
        assert (played.end.status, played.answer) == ("done", "one\n3")
        assert not (own / "context").exists()
    assert not reads
    assert store.clear() == 1


SCRIPT = """
import asyncio, os, signal, sys, time
from pathlib import Path
from rlm_server.config import ContextConfig
from rlm_server.context import entry
from rlm_server.context.build import build_corpus
from rlm_server.context.store import Store
from rlm_server.protocol import TreeSource

root, store, run, mode = sys.argv[1:]
if mode == "kill":
    entry._rename = lambda new, place: os.kill(os.getpid(), signal.SIGKILL)
store = Store(Path(store), 1 << 30, least=0, clock=lambda: time.time() + 60)
print("ready", flush=True)
sys.stdin.readline()
corpus = asyncio.run(build_corpus([TreeSource(root=root)], [], directory=Path(run),
    config=ContextConfig(), on_progress=lambda *_: None, store=store))
print(corpus.directory, corpus.hash, flush=True)
sys.stdin.readline()
corpus.close()
"""


def process(root: Path, store: Path, run: Path, mode: str = "") -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, root, store, run, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def step(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline()


def test_processes_that_prepare_the_same_share_one(
    root: Path, tmp_path: Path, store: Store
) -> None:
    running = [process(root, store.directory, tmp_path / f"run{n}") for n in range(3)]
    for each in running:
        step(each)
    said = {line(each) for each in running}
    assert len(said) == 1
    assert store.clear() == 0  # other processes hold it
    for each in running:
        step(each)
        each.communicate()
        assert each.returncode == 0
    assert [str(path) for path in store.entries()] == [said.pop().split()[0]]
    assert sorted(p.name for p in store.directory.iterdir() if p.name.startswith(".")) == []
    assert store.clear() == 1


async def test_what_a_killed_process_was_making_is_not_used(
    root: Path, tmp_path: Path, store: Store, ask: Ask, reads: list[str]
) -> None:
    killed = process(root, store.directory, tmp_path / "run", "kill")
    step(killed)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert store.entries() == []
    corpus = await ask(tree(root))
    assert reads
    assert corpus.directory.parent == store.directory
    corpus.close()


async def test_a_killed_user_holds_nothing(root: Path, tmp_path: Path, store: Store) -> None:
    user = process(root, store.directory, tmp_path / "run")
    step(user)
    assert line(user)
    assert store.clear() == 0
    user.kill()
    user.communicate()
    assert store.clear() == 1
