"""The guardian against everything that a sandbox may write to it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_server.sandbox import Repl
from sandbox_support import Bench, bench

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guardians are for Linux")

FIND_IT = """
import os, socket, stat
keep = 1
data = llm_query.__self__._channel._socket.fileno()
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
rescue = next(fd for fd in range(3, 100) if fd != data and is_socket(fd))
"""


def test_nothing_written_to_it_costs_the_namespace(tmp_path: Path) -> None:
    words = st.sampled_from([b"A", b"L", b"R", b"AAAA", b"\0"]) | st.binary(
        min_size=1, max_size=2000
    )

    async def attack(b: Bench, written: list[bytes], ending: str) -> None:
        code = f"for word in {written!r}: os.write(rescue, word)\n{ending}"
        result = await b.run(code, 5)
        assert result.status == ("ok" if ending == "lost = 1" else "died")
        assert result.kept
        assert await b.ok("print(keep)") == "1\n"

    with asyncio.Runner() as runner:
        context = bench(tmp_path)
        b = runner.run(context.__aenter__())
        runner.run(b.ok(FIND_IT))

        @settings(max_examples=60, deadline=None)
        @given(
            written=st.lists(words, max_size=20),
            ending=st.sampled_from(
                ["lost = 1", "os._exit(1)", "import ctypes; ctypes.string_at(1)"]
            ),
        )
        def examples(written: list[bytes], ending: str) -> None:
            runner.run(attack(b, written, ending))

        try:
            examples()
        finally:
            runner.run(context.__aexit__(None, None, None))


async def test_a_flood_is_over_when_the_cell_is(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok(FIND_IT)
        flood = "os.set_blocking(rescue, False)\nwhile True: os.write(rescue, b'A' * 65536)"
        result = await b.run(flood, 2)
        assert result.error.startswith("BlockingIOError")
        assert (await b.run("os._exit(1)", 5)).kept
        assert await b.ok("print(keep)") == "1\n"


async def test_a_cell_that_ends_while_it_is_killed_costs_nothing(tmp_path: Path) -> None:
    # The cell's process sees its socket close and exits, just when it would have been killed.
    async with bench(tmp_path) as b:
        await b.ok(FIND_IT)
        for _ in range(20):
            assert (
                await b.run("os.write(data, b'\\0\\x10\\0\\0abc')\nwhile True: pass", 0.05)
            ).kept
            assert await b.ok("print(keep)") == "1\n"


async def test_the_server_survives_a_guardian_that_is_killed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        worker = b.repl._worker
        assert worker is not None
        worker._lose("the guardian was killed")  # type: ignore[attr-defined]
        result = await b.run("1")
        assert (result.status, result.kept) == ("ok", False)
        assert isinstance(b.repl, Repl)


DIE_ONCE_AHEAD = """
import os, time, _thread
keep = 1
def die():
    while not llm_query.__self__._channel._reading:  # it waits for the next cell
        time.sleep(0.0001)
    open("once", "w").close()
    os._exit(3)
def hook():
    if not os.path.exists("once"):
        _thread.start_new_thread(die, ())
os.register_at_fork(after_in_child=hook)
"""


async def test_a_process_that_dies_between_cells_costs_nothing(tmp_path: Path) -> None:
    # The next cell's process is made ahead of it, and its twin is there by then.
    async with bench(tmp_path) as b:
        await b.ok(DIE_ONCE_AHEAD)
        worker = b.repl._worker
        assert worker is not None
        while worker.usable:
            await asyncio.sleep(0.001)
        result = await b.run("print(keep)")
        assert (result.output, result.kept) == ("1\n", True)
        assert b.repl._worker is worker


async def test_cells_give_way_to_whoever_is_at_the_screen(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        niceness = await b.ok("import os; print(os.getpriority(os.PRIO_PROCESS, 0))")
        assert int(niceness) == os.getpriority(os.PRIO_PROCESS, 0) + 5
