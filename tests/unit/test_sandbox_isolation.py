from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.sandbox import Repl, isolation, launch, packages, scratch, selftest, syscalls
from rlm_server.sandbox.plain_worker import PlainWorker
from rlm_server.sandbox.pool import pool
from rlm_server.sandbox.seccomp import policy
from sandbox_support import Bench, bench, corpus_files, descendants, echo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the modes tried here are Linux's")


@pytest.fixture
def overrides() -> Iterator[dict[str, object]]:
    yield launch.overrides
    launch.overrides.clear()


# ------------------------------------------------------------------------------------- the choice


async def test_a_mode_is_chosen_by_trying() -> None:
    chosen = await isolation.choose(SandboxConfig())
    assert chosen.mode in ("full", "base")
    assert len(chosen.canaries) >= 10
    assert "open" not in chosen.canaries.values()
    assert chosen.checkpoints
    assert chosen.mapped
    assert isolation.last() == chosen


async def test_what_killed_servers_left_of_their_trials_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_known", {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    now = time.time()
    for name, age in {"rlm-canary-old": 2 * 3600, "rlm-canary-new": 60, "other": 9e6}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "canary").touch()
        os.utime(tmp_path / name, (now - age, now - age))
    await isolation.choose(SandboxConfig())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "rlm-canary-new"]


@pytest.mark.parametrize("mode", ["base", "none"])
async def test_a_mode_can_be_named(tmp_path: Path, mode: str) -> None:
    config = SandboxConfig(isolation=mode)  # type: ignore[arg-type]
    async with bench(tmp_path, config=config) as b:
        assert b.repl.isolation == mode
        result = await b.run("open('/etc/passwd').read(1)")
        assert result.status == ("ok" if mode == "none" else "error")
        await b.ok("keep = 1")
        assert (await b.run("import os; os._exit(1)")).kept
        assert await b.ok("keep") == "1\n"


async def test_what_can_not_be_enforced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_known", {})
    monkeypatch.setattr(
        selftest,
        "_CANARIES",
        selftest._CANARIES.replace("found[_name] = type", 'found[_name] = "open" or type'),
    )
    files = corpus_files(tmp_path, {"a": "text"})
    with pytest.raises(SandboxError, match="can't be contained") as refused:
        await Repl.start(files, config=SandboxConfig(), on_call=echo)
    assert "isolation to none" in refused.value.cure
    chosen = await isolation.choose(SandboxConfig(isolation="none"))
    assert chosen.mode == "none"
    assert "nothing is contained" in chosen.limits[0]


async def test_seatbelt_is_refused_where_it_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_zygote_works", lambda: False)
    with pytest.raises(SandboxError, match="seatbelt"):
        await isolation.choose(SandboxConfig(isolation="seatbelt"))


async def test_without_a_listener_there_are_no_checkpoints(
    tmp_path: Path, overrides: dict[str, object]
) -> None:
    overrides["gate"] = False
    async with bench(tmp_path, config=SandboxConfig(isolation="base")) as b:
        chosen = await isolation.choose(SandboxConfig(isolation="base"))
        assert not chosen.checkpoints
        assert any("takes the variables" in limit for limit in chosen.limits)
        await b.ok("keep = 1")
        assert not (await b.run("import os; os._exit(1)")).kept
        assert await b.ok("print('keep' in globals(), len(context))") == "False 11\n"


# ------------------------------------------------------------------------------- zygote and pool


async def test_sandboxes_wait_ahead(tmp_path: Path) -> None:
    config = SandboxConfig(warm=3, memory=128 << 20)
    await isolation.prepare(config)
    assert len(pool._ready) == 3
    async with bench(tmp_path, config=config) as b:
        assert await b.ok("1") == "1\n"
        assert len(pool._ready) == 3


async def test_a_start_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    config = SandboxConfig(warm=1)
    async with bench(tmp_path, config=config):
        pool._ready[0].data.close()
        pool._ready[0].guardian.shutdown(2)
    async with bench(tmp_path, config=config) as b:
        assert await b.ok("1") == "1\n"


async def test_a_dead_zygote_is_replaced(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert pool._zygote is not None
        pool._zygote._process.kill()
        pool._zygote._process.wait()
    async with bench(tmp_path) as b:
        assert await b.ok("2") == "2\n"


async def test_many_sandboxes_in_a_row_leak_nothing(tmp_path: Path) -> None:
    files = corpus_files(tmp_path, {"a": "text"})
    config = SandboxConfig(warm=0)

    async def one() -> None:
        repl = await Repl.start(files, config=config, on_call=echo)
        assert await Bench(repl).ok("1") == "1\n"
        await repl.close()

    pool.close()  # what other tests have left in it
    await one()
    while len(descendants(os.getpid())) > 1:  # all but the zygote
        await asyncio.sleep(0.01)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(250 if os.environ.get("CI") else 30):
        await one()
    while len(descendants(os.getpid())) > 1:
        await asyncio.sleep(0.01)
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


async def test_thread_pools_of_earlier_cells_work(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "p = ThreadPoolExecutor(2)\nassert list(p.map(str, range(4))) == ['0', '1', '2', '3']"
        )
        assert await b.ok("list(p.map(llm_query, ['x']))") == "['echo: x']\n"


async def test_functions_generators_and_locks_survive_a_kill(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok(
            "import threading\ng = iter(range(9)); next(g)\n"
            "f = lambda: next(g)\nl = threading.Lock()"
        )
        assert (await b.run("next(g); l.acquire(); x = 1\nimport os; os._exit(1)")).kept
        assert await b.ok("print(f(), l.locked(), 'x' in globals())") == "1 False False\n"


# --------------------------------------------------------------------------------- plain process


async def test_a_plain_process_runs_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_zygote_works", lambda: False)
    async with bench(tmp_path, config=SandboxConfig(isolation="none")) as b:
        assert isinstance(b.repl._worker, PlainWorker)
        await b.ok("keep = 1")
        assert (await b.run("while True: pass", 0.1)).kept
        assert (
            await b.run("import os; os._exit(3)")
        ).error == "the REPL process ended with exit code 3"
        assert await b.ok("print('keep' in globals(), len(context))") == "False 11\n"


# -------------------------------------------------------------------------------------- packages


async def test_packages_have_to_be_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    config = SandboxConfig(packages=["somepackage"])
    with pytest.raises(SandboxError, match="somepackage") as missing:
        async with bench(tmp_path, config=config):
            pass
    assert "python -m rlm_server.sandbox" in missing.value.cure


@pytest.mark.parametrize("mode", ["full", "base"])
async def test_prepared_packages_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    place = packages._place(["somepackage"])
    place.mkdir(parents=True)
    (place / "somepackage.py").write_text("answer = 42")
    config = SandboxConfig(packages=["somepackage"], isolation=mode)  # type: ignore[arg-type]
    try:
        async with bench(tmp_path, config=config) as b:
            assert await b.ok("import somepackage; somepackage.answer") == "42\n"
            result = await b.run("open(somepackage.__file__, 'w')")
            assert re.search("PermissionError|Read-only", result.error)
    except SandboxError as error:
        pytest.skip(f"{mode} is not possible here: {error}")


# ------------------------------------------------------------------------------ filter and quota


def test_the_filter_knows_every_call_once() -> None:
    tables = [syscalls.ALLOWED, syscalls.BY_ARGUMENT, syscalls.FAKED, syscalls.FORBIDDEN]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    for column in (0, 1):
        numbers = [pair[column] for table in tables for pair in table.values()]
        known = [number for number in numbers if number is not None]
        assert len(known) == len(set(known))


@pytest.mark.parametrize(
    ("header", "column", "pattern"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0, r"#define __NR_(\w+) (\d+)"),
        ("/usr/include/asm-generic/unistd.h", 1, r"#define __NR(?:3264)?_(\w+) (\d+)"),
    ],
)
def test_the_numbers_are_the_kernels(header: str, column: int, pattern: str) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    official: dict[str, int] = {}
    for name, number in re.findall(pattern, Path(header).read_text()):
        official.setdefault(name, int(number))
    for table in (syscalls.ALLOWED, syscalls.BY_ARGUMENT, syscalls.FAKED, syscalls.FORBIDDEN):
        for name, pair in table.items():
            if name in official and pair[column] is not None:
                assert pair[column] == official[name], name


@pytest.mark.parametrize("forks", [True, False])
def test_every_jump_of_the_filter_lands_inside_it(forks: bool) -> None:
    program = policy(forks=forks)
    assert len(program) < 4096
    for place, (code, yes, no, value) in enumerate(program):
        assert 0 <= yes < 256 and 0 <= no < 256
        if code & 0x07 == 0x05:
            reach = value if code == 0x05 else max(yes, no)
            assert place + 1 + reach < len(program)
    assert program[-1][0] == 0x06


def test_scratch_counts_and_empties_what_is_hostile(tmp_path: Path) -> None:
    directory = tmp_path / "scratch"
    directory.mkdir()
    (tmp_path / "outside").write_text("stays")
    (directory / "link").symlink_to(tmp_path)
    (directory / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= scratch.used(str(directory), os.getpid(), 1 << 30) < 200_000
    assert scratch.used(str(directory), os.getpid(), 1000) == 1000
    here = os.open(directory, os.O_DIRECTORY)
    for _ in range(1500):  # deeper than any path can say
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert scratch.used(str(directory), os.getpid(), 1 << 30) == 1 << 30
    with (directory / "gone").open("wb") as gone:
        gone.write(b"x" * 100_000)
        gone.flush()
        (directory / "gone").unlink()
        scratch.empty(str(directory))
        assert scratch.used(str(directory), os.getpid(), 1 << 30) >= 100_000
    assert list(directory.iterdir()) == []
    assert (tmp_path / "outside").read_text() == "stays"
