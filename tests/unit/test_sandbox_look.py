"""Looks at variables: without effect, by pages, and bounded whatever a variable does."""

import asyncio
from pathlib import Path

import pytest

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from sandbox_support import bench


async def test_variables_are_listed_with_type_length_size_and_preview(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("words = ['alpha'] * 1000\ntext = 'x' * 5000\nn = 7\nimport re")
        looked = await b.repl.look(None, length=100)
    told = {v.name: v for v in looked.variables}
    assert set(told) == {"words", "text", "n", "answer"}
    assert (told["words"].type, told["words"].length) == ("list", 1000)
    assert told["words"].text.startswith("['alpha', 'alpha',")
    assert len(told["words"].text) <= 200
    assert 5000 <= told["text"].bytes < 10_000
    assert (told["n"].length, told["n"].text) == (None, "7")
    assert looked.count == 4
    assert 0 < looked.memory < looked.memory_limit


async def test_a_list_is_cut_and_its_length_told(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("for i in range(50): globals()[f'v{i}'] = i")
        looked = await b.repl.look(None, length=10)
    assert (len(looked.variables), looked.count) == (10, 52)


async def test_a_large_value_is_shown_by_pages(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("text = 'é' * 10_000_000 + 'end'")
        [page] = (await b.repl.look("text", start=9_999_999, length=100)).variables
        [context] = (await b.repl.look("context", start=0, length=5)).variables
        [pretty] = (await b.repl.look("answer", start=0, length=100)).variables
    assert (page.text, page.characters) == ("éend", 10_000_003)
    assert context.text == "alpha"
    assert pretty.text == "{'content': '', 'ready': False}"


async def test_a_look_changes_nothing(tmp_path: Path) -> None:
    hostile = (
        "seen = []\n"
        "class Odd:\n"
        "    def __repr__(self):\n"
        "        global seen\n"
        "        seen.append(1); answer['ready'] = True; print('shown')\n"
        "        open('left', 'w').write('x')\n"
        "        return 'odd'\n"
        "odd = Odd()"
    )
    async with bench(tmp_path) as b:
        await b.ok(hostile)
        [odd] = (await b.repl.look("odd", length=100)).variables
        assert odd.text == "odd"
        assert await b.ok("print(seen, answer['ready'])") == "[] False\n"
    assert b.printed == [("stdout", "[] False\n")]


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "while True:\n            try:\n                while True: pass\n"
        "            except BaseException: pass",
        "return 'x' * 200_000_000",
        "raise SystemExit",
        "import os; os._exit(3)",
        "return llm_query('costs money')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "return 5",
    ],
)
async def test_a_hostile_variable_costs_little_time_and_hides_no_other(
    tmp_path: Path, body: str
) -> None:
    calls = []

    async def on_call(call):
        calls.append(call)

    config = SandboxConfig(memory=256 << 20)
    async with bench(tmp_path, config=config, on_call=on_call) as b:
        await b.ok(f"class Odd:\n    def __repr__(self):\n        {body}\nodd = Odd()\nx = 41")
        async with asyncio.timeout(60):
            looked = await b.repl.look(None, length=100)
        told = {v.name: v.text for v in looked.variables}
        assert told["x"] == "41"
        assert len(told["odd"]) <= 200
        assert await b.ok("print(x + 1)") == "42\n"
    assert not calls


async def test_a_hostile_variable_that_is_inspected_is_an_error_or_short(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok(
            "class Odd:\n    def __repr__(self):\n        while True: pass\nodd = Odd()\nx = 1"
        )
        [odd] = (await b.repl.look("odd", length=100)).variables
        assert len(odd.text) <= 100
        assert await b.ok("print(x)") == "1\n"


async def test_a_name_that_there_is_not(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(SandboxError, match="no variable 'missing'"):
            await b.repl.look("missing", length=10)
        assert await b.ok("print(1)") == "1\n"


async def test_without_checkpoints_no_variable_is_asked_what_it_is(tmp_path: Path) -> None:
    async with bench(tmp_path, config=SandboxConfig(isolation="none")) as b:
        await b.ok("class Odd:\n    def __repr__(self): 1/0\nodd = Odd()\nx = [1]")
        told = {v.name: v.text for v in (await b.repl.look(None, length=9)).variables}
        assert (told["odd"], told["x"]) == ("<Odd>", "[1]")
        assert await b.ok("print(x)") == "[1]\n"


async def test_settling_ends_threads_and_keeps_variables(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok(
            "import threading, time\ncount = 0\n"
            "def work():\n    global count\n    while True: count += 1; time.sleep(0.001)\n"
            "threading.Thread(target=work, daemon=True).start()"
        )
        assert await b.repl.settle() > 0
        first = await b.ok("print(count)")
        assert await b.ok("import time; time.sleep(0.05); print(count)") == first


async def test_answer_begins_anew_with_the_next_cell_that_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("answer['content'] = 'old'; answer['ready'] = True")
        b.repl.renew()
        assert (await b.run("import os; os._exit(1)")).status == "died"
        result = await b.run("x = 1")
        assert (result.answer, result.ready, b.repl.cells) == (None, False, 3)
        result = await b.run("answer['content'] = 'new'")
        assert (result.answer, result.ready) == ("new", False)
        await b.ok("forget('answer')")
        assert (await b.run("x")).answer == "new"
