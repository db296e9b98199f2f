"""Cells that begin before they are sure to be run: made sure, or undone with all they did."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rlm_server.sandbox import Call, CallReply, CellResult, Sure, VoidError
from sandbox_support import Bench, bench


def begin(b: Bench, code: str, seconds: float = 20.0) -> tuple[asyncio.Task[CellResult], Sure]:
    sure: Sure = asyncio.get_running_loop().create_future()
    run = b.repl.run(
        code,
        timeout=seconds,
        on_output=lambda stream, text: b.printed.append((stream, text)),
        sure=sure,
    )
    return asyncio.create_task(run), sure


async def printed(b: Bench, text: str) -> None:
    while text not in "".join(piece for _, piece in b.printed):
        await asyncio.sleep(0.001)


async def test_the_result_comes_when_the_cell_is_sure(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        task, sure = begin(b, "x = 5\nprint('there')\nx")
        await printed(b, "5")
        assert not task.done()
        sure.set_result(True)
        assert (await task).output == "there\n5\n"
        b.repl.complete("The whole reply.")
        assert await b.ok("x, history[0].reply") == "(5, 'The whole reply.')\n"


async def test_a_cell_that_was_not_to_run_never_happened(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("x = [1]")
        task, sure = begin(b, "x.append(2)\ny = 3\nprint('there')")
        await printed(b, "there")
        sure.set_result(False)
        with pytest.raises(VoidError) as void:
            await task
        assert void.value.kept
        told = await b.ok(
            "x, 'y' in globals(), [c.number for c in history], '_result_2' in globals()"
        )
        assert told == "([1], False, [1], False)\n"
        assert await b.ok("sorted(n for n in globals() if n.startswith('_result'))") == (
            "['_result_1', '_result_2']\n"
        )


@pytest.mark.parametrize("ending", ["while True: pass", "import os; os._exit(3)", "1 / 0"])
async def test_however_it_ends(tmp_path: Path, ending: str) -> None:
    async with bench(tmp_path) as b:
        await b.ok("x = 1")
        task, sure = begin(b, f"x = 2\nprint('there')\n{ending}")
        worker = b.repl._worker
        assert worker is not None
        frames = worker.frames  # it has others, once the cell is undone
        if "_exit" in ending:  # what it has printed may be lost
            while not frames.ended:
                await asyncio.sleep(0.001)
        else:
            await printed(b, "there")
        sure.set_result(False)
        with pytest.raises(VoidError):
            await task
        assert await b.ok("x") == "1\n"


async def test_calls_in_flight_end_with_it(tmp_path: Path) -> None:
    asked: list[str] = []
    ended: list[str] = []

    async def never(call: Call) -> CallReply:
        asked.append(call.prompt)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(call.prompt)
        raise AssertionError

    async with bench(tmp_path, on_call=never) as b:
        task, sure = begin(b, "llm_query('a')")
        while not asked:
            await asyncio.sleep(0.001)
        sure.set_result(False)
        with pytest.raises(VoidError):
            await task
        assert ended == ["a"]


WRITING = [
    "open('f', 'w').write('x')",
    "import pathlib; pathlib.Path('f').write_text('x')",
    "import os; os.close(os.open('f', os.O_CREAT | os.O_WRONLY))",
    "import os; os.mkdir('f')",
    "import os; os.rename('old', 'f')",
    "import os; os.remove('old')",
    "import sqlite3; sqlite3.connect('f').execute('create table t (x)')",
]


@pytest.mark.parametrize("code", [*WRITING, "kept.write('more'); kept.flush()"])
@pytest.mark.parametrize("to_run", [True, False])
async def test_no_file_changes_before_it_is_sure(tmp_path: Path, code: str, to_run: bool) -> None:
    async with bench(tmp_path) as b:
        opened = "kept = open('old', 'a')\n" if "kept" in code else ""
        await b.ok(f"import os\nopen('old', 'w').close()\n{opened}")
        look = "sorted(os.listdir()), os.path.exists('old') and os.path.getsize('old')"
        before = await b.ok(look)
        task, sure = begin(b, f"print(len(context))\n{code}\nprint('over')")
        if not opened:  # what a file that is open already could change waits from the beginning
            await printed(b, "\n")
        # A second cell would see what the first has done, but for the wait: there is only one.
        done, _ = await asyncio.wait({task}, timeout=0.05)
        assert not done
        assert "over" not in "".join(text for _, text in b.printed)
        sure.set_result(to_run)
        if to_run:
            assert (await task).status == "ok"
            assert await b.ok(look) != before
        else:
            with pytest.raises(VoidError):
                await task
            assert await b.ok(look) == before


async def test_its_time_is_counted_from_when_it_is_sure(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        task, sure = begin(b, "print('there')\nwhile True: pass", 0.01)
        await printed(b, "there")
        done, _ = await asyncio.wait({task}, timeout=0.05)
        assert not done
        sure.set_result(True)
        assert (await task).status == "timeout"


async def test_reading_need_not_wait(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("open('old', 'w').write('text')")
        task, sure = begin(b, "import json, difflib\nprint(open('old').read())")
        await printed(b, "text")
        sure.set_result(True)
        assert (await task).status == "ok"
