from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from rlm_server.config import SandboxConfig
from rlm_server.errors import SandboxError
from rlm_server.protocol import RunError, Usage
from rlm_server.sandbox import Call, CallReply
from sandbox_support import PATIENCE, bench, corpus_files, descendants, living

LOOP_THAT_SWALLOWS = """
import time
print("running")
while True:
    try:
        time.sleep(0.001)
    except BaseException:
        pass
"""


# ------------------------------------------------------------------------------------- namespace


async def test_prints_and_shows_the_last_value(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run("x = 41\nprint('hi')\nx + 1")
        assert (result.status, result.error, result.kept) == ("ok", "", True)
        assert result.output == "hi\n42\n"
        assert b.printed == [("stdout", "hi\n"), ("value", "42\n")]
        assert await b.ok("x = None\nx") == ""


async def test_functions_see_globals_of_later_cells(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("def f():\n    return later + 1")
        assert await b.ok("later = 1\nprint(f())") == "2\n"


async def test_names_bound_before_an_error_stay(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run("x = 5\n1 / 0\ny = 6")
        assert result.status == "error"
        assert result.error == "ZeroDivisionError: division by zero"
        assert 'File "<cell 1>", line 2' in result.output
        assert "1 / 0" in result.output
        assert "child.py" not in result.output
        assert await b.ok("print(x, 'y' in globals())") == "5 False\n"


async def test_traceback_shows_the_line_of_an_earlier_cell(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("def f():\n    raise ValueError('why')")
        result = await b.run("\nf()")
        assert 'File "<cell 2>", line 2' in result.output
        assert "raise ValueError('why')" in result.output


async def test_a_traceback_begins_with_the_cell_and_tells_nothing_of_this_machine(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        result = await b.run("x = (")
        assert result.output.startswith('  File "<cell 1>", line 1')
        result = await b.run("import json\njson.loads('x')")
        assert result.output.startswith(
            'Traceback (most recent call last):\n  File "<cell 2>", line 2, in <module>'
        )
        assert 'File "json/decoder.py"' in result.output
        assert 'File "/' not in result.output


async def test_classes_of_cells_are_found_by_their_names(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("import pickle\nclass Kept:\n    x = 1")
        assert await b.ok("type(pickle.loads(pickle.dumps(Kept()))) is Kept") == "True\n"
        assert await b.ok("__name__") == "'__main__'\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("x = bytearray(50 << 30)", "MemoryError"),
        (
            "class E(Exception):\n    def __str__(self): return 1\nraise E",
            "<exception str() failed>",
        ),
    ],
)
async def test_errors_leave_the_namespace(tmp_path: Path, code: str, error: str) -> None:
    async with bench(tmp_path) as b:
        await b.ok("keep = 1")
        result = await b.run(code)
        assert result.status == "error"
        assert error in result.error
        assert result.kept
        assert await b.ok("keep") == "1\n"


async def test_two_repls_know_nothing_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    async with bench(tmp_path / "1") as one, bench(tmp_path / "2", {"b": "other"}) as two:
        await asyncio.gather(one.ok("x = 1"), two.ok("x = 2"))
        outputs = await asyncio.gather(
            one.ok("print(x, len(context))"), two.ok("print(x, context)")
        )
        assert outputs == ["1 11\n", "2 other\n"]


async def test_a_second_cell_at_once_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = asyncio.create_task(b.run(LOOP_THAT_SWALLOWS))
        while not b.printed:
            await asyncio.sleep(0.005)
        with pytest.raises(SandboxError, match="running"):
            await b.run("1")
        b.repl.interrupt()
        assert (await first).status == "cancelled"


# ---------------------------------------------------------------------------------------- output


async def test_long_output_is_clipped_with_its_true_length(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run("print('a' * 5000 + 'b' * 5000)", show=1000)
        assert result.output_characters == 10_001
        assert len(result.output) <= 1000
        assert result.output.startswith("aaa")
        assert result.output.endswith("bbb\n")
        assert "10,001 characters" in result.output
        assert await b.ok("print(len(_result_1), _result_1[-3:-1])") == "10001 bb\n"


async def test_kept_output_is_bounded(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("for _ in range(10): print('x' * 1_000_000)")
        assert "10,000,010 characters were printed" in await b.ok("_result_1[-60:]")
        assert await b.ok("print(len(_result_1) < 8_000_200)") == "True\n"


async def test_output_flood_is_stopped(tmp_path: Path) -> None:
    async with bench(tmp_path, config=SandboxConfig(output=100_000)) as b:
        result = await b.run("while True: print('x' * 1000)")
        assert result.status == "limit"
        assert "100,000" in result.error
        assert sum(len(text) for _, text in b.printed) <= 100_000


async def test_output_is_streamed_while_the_cell_runs(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    go_on = asyncio.Event()

    async def on_call(call: Call) -> CallReply:
        waiting.set()
        await go_on.wait()
        return CallReply("done")

    async with bench(tmp_path, on_call=on_call) as b:
        cell = asyncio.create_task(b.run("print('first', end='')\nllm_query('x')\nprint('second')"))
        await waiting.wait()
        while not b.printed:  # the flusher has its own pace
            await asyncio.sleep(0.005)
        assert b.printed == [("stdout", "first")]
        go_on.set()
        await cell
        assert b.printed[1:] == [("stdout", "second\n")]


async def test_text_is_fit_for_any_json_parser(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run(
            "print('a\\0b\\ud800c\\U0001F600\\ud83d\\ude00')\nraise ValueError('\\udc00')"
        )
        assert result.output.startswith("a\u2400b\ufffdc\U0001f600\U0001f600\n")
        assert result.error == "ValueError: \ufffd"


async def test_both_streams_and_bytes_are_recorded(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("import sys\nprint('e', file=sys.stderr)\nsys.stdout.buffer.write(b'raw')\nNone")
        assert b.printed == [("stderr", "e\n"), ("stdout", "raw")]


async def test_replaced_streams_are_put_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("import sys; sys.stdout = sys.stderr = None; print('lost')")
        assert await b.ok("print('found')") == "found\n"


# ---------------------------------------------------------------------------------------- answer


@pytest.mark.parametrize(
    ("code", "answer", "ready"),
    [
        ("pass", None, False),
        ("answer['content'] = 'part'", "part", False),
        ("answer['ready'] = True; answer['content'] = 'late'", "late", True),
        ("answer.update(content='u', ready=True)", "u", True),
        ("answer = {'content': 7, 'ready': True}", "7", True),
        ("answer = 'bare'", "bare", False),
        ("FINAL(3.5)", "3.5", True),
        ("x = [1]\nFINAL_VAR('x')", "[1]", True),
        ("FINAL('f'); answer['content'] = 'a'", "f", True),
        ("FINAL('before')\n1 / 0", "before", True),
        ("del answer", None, False),
    ],
)
async def test_the_answer_is_read_at_the_end(
    tmp_path: Path, code: str, answer: str | None, ready: bool
) -> None:
    async with bench(tmp_path) as b:
        result = await b.run(code)
        assert (result.answer, result.ready) == (answer, ready)


async def test_final_var_of_a_missing_name_says_what_there_is(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run("found = 1\nFINAL_VAR('fuond')")
        assert result.status == "error"
        assert "'fuond'" in result.error
        assert "found" in result.error
        assert not result.ready


async def test_show_vars(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert "No variables" not in await b.ok("rows = [1, 2]\nSHOW_VARS()")
        output = await b.ok("SHOW_VARS()")
        assert "rows: list, 2 long" in output
        assert "llm_query" not in output


# ----------------------------------------------------------------------------------------- calls


async def test_calls_carry_prompt_model_and_usage(tmp_path: Path) -> None:
    seen: list[Call] = []

    async def on_call(call: Call) -> CallReply:
        seen.append(call)
        return CallReply("yes", model="m", usage=Usage(prompt_tokens=7, cost=None), cached=True)

    async with bench(tmp_path, on_call=on_call) as b:
        out = await b.ok(
            "r = llm_query('what\\0', model='small')\n"
            "print(r, type(r).__mro__[1], r.model, r.cached, r.usage.prompt_tokens, r.usage.cost)"
        )
        assert out == "yes <class 'str'> m True 7 None\n"
        assert (seen[0].function, seen[0].prompt, seen[0].model) == (
            "llm_query",
            "what\u2400",
            "small",
        )


async def test_batches_keep_order_and_the_bound_in_flight(tmp_path: Path) -> None:
    in_flight = most = 0
    full = asyncio.Event()

    async def on_call(call: Call) -> CallReply:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        if in_flight == 5:
            full.set()
        await full.wait()
        for _ in range(20):  # if there were a sixth, it would come before this is answered
            await asyncio.sleep(0)
        in_flight -= 1
        return CallReply(call.prompt)

    config = SandboxConfig(calls_at_once=5)
    async with bench(tmp_path, on_call=on_call, config=config) as b:
        await b.ok(
            "assert llm_query_batched([str(i) for i in range(300)]) == [str(i) for i in range(300)]"
        )
        assert most == 5


async def test_failures_raise_or_take_their_place(tmp_path: Path) -> None:
    async def on_call(call: Call) -> CallReply:
        if call.prompt == "bad":
            return CallReply("", RunError(kind="refused", message="No.", cure="Pay."))
        return CallReply("good")

    async with bench(tmp_path, on_call=on_call) as b:
        result = await b.run("llm_query('bad')")
        assert result.error == "SubcallError: No. Pay."
        out = await b.ok(
            "r = llm_query_batched(['x', 'bad', 'y'])\n"
            "print(r[0], r[2], isinstance(r[1], SubcallFailure), r[1].error.kind, 'No.' in r[1])"
        )
        assert out == "good good True refused True\n"


async def test_an_exception_in_the_server_is_a_failed_call(tmp_path: Path) -> None:
    async def on_call(call: Call) -> CallReply:
        raise RuntimeError("oops")

    async with bench(tmp_path, on_call=on_call) as b:
        assert (await b.run("llm_query('x')")).error == "SubcallError: oops"


async def test_calls_from_threads_work_at_once(tmp_path: Path) -> None:
    together = asyncio.Barrier(4)

    async def on_call(call: Call) -> CallReply:
        async with together:  # passes only when four calls are in flight
            return CallReply(call.prompt * 2)

    async with bench(tmp_path, on_call=on_call) as b:
        out = await b.ok(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(4) as pool: print(list(pool.map(llm_query, 'abcd')))"
        )
        assert out == "['aa', 'bb', 'cc', 'dd']\n"


async def test_too_long_a_prompt_is_a_clear_error(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run("llm_query('x' * 9_000_000)")
        assert "9,000,000 characters" in result.error
        assert "slice" in result.error
        assert "list of prompts" in (await b.run("llm_query_batched('x')")).error


# -------------------------------------------------------------------------------------- stopping


async def test_a_loop_is_interrupted_at_its_deadline(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("keep = 1")
        result = await b.run("while True: pass", 0.1)
        assert result.status == "timeout"
        assert "0.1 seconds" in result.error
        assert result.kept
        assert await b.ok("keep") == "1\n"


async def test_cancel_in_the_middle_of_a_cell(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        cell = asyncio.create_task(b.run("print('running')\nwhile True: pass"))
        while not b.printed:
            await asyncio.sleep(0.005)
        b.repl.interrupt()
        result = await asyncio.wait_for(cell, 60)
        assert result.status == "cancelled"
        assert await b.ok("1") == "1\n"


async def test_cancel_while_a_call_waits(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    cancelled = asyncio.Event()

    async def on_call(call: Call) -> CallReply:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with bench(tmp_path, on_call=on_call) as b:
        cell = asyncio.create_task(b.run("keep = 1\nllm_query('x')"))
        await waiting.wait()
        b.repl.interrupt()
        result = await asyncio.wait_for(cell, 60)
        assert (result.status, result.kept) == ("cancelled", True)
        await asyncio.wait_for(cancelled.wait(), 60)
        assert await b.ok("keep") == "1\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (LOOP_THAT_SWALLOWS, "timeout"),
        ("sum(range(10 ** 13))", "timeout"),
        ("import os; os._exit(3)", "died"),
        ("import ctypes; ctypes.string_at(1)", "died"),
    ],
)
async def test_after_a_kill_the_next_cell_works(tmp_path: Path, code: str, status: str) -> None:
    async with bench(tmp_path) as b:
        await b.ok("x = 1")
        result = await b.run(code, 0.2 if status == "timeout" else PATIENCE)
        assert result.status == status
        assert await b.ok("print(len(context))") == "11\n"
        expected = "True\n" if result.kept else "False\n"
        assert await b.ok("print('x' in globals())") == expected


async def test_cancelling_the_task_kills_the_process(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        cell = asyncio.create_task(b.run(LOOP_THAT_SWALLOWS))
        while not b.printed:
            await asyncio.sleep(0.005)
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell
        assert await b.ok("1") == "1\n"


async def test_close_ends_a_running_cell_and_twice_does_no_harm(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        cell = asyncio.create_task(b.run(LOOP_THAT_SWALLOWS))
        while not b.printed:
            await asyncio.sleep(0.005)
        await b.repl.close()
        await b.repl.close()
        assert (await cell).status in ("cancelled", "died")
        with pytest.raises(SandboxError, match="closed"):
            await b.run("1")


async def test_nothing_outlives_a_killed_server(tmp_path: Path) -> None:
    corpus_files(tmp_path, {"a": "text"})
    program = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from sandbox_support import bench

async def main():
    async with bench(Path({str(tmp_path)!r})) as b:
        cell = asyncio.create_task(b.run({LOOP_THAT_SWALLOWS!r}, 60))
        while not b.printed:
            await asyncio.sleep(0.005)
        print("up", flush=True)
        await cell

asyncio.run(main())
"""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert server.stdout is not None
    assert await server.stdout.readline() == b"up\n"
    started = descendants(server.pid)
    assert len(started) >= 3  # a zygote, a guardian, a cell
    server.send_signal(signal.SIGKILL)
    await server.wait()
    while started & living():
        await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------- isolation


async def test_no_secret_is_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-secret")
    async with bench(tmp_path) as b:
        out = await b.ok("import os; print(sorted(os.environ), dict(os.environ))")
        assert "secret" not in out
        assert "SOME_API_KEY" not in out


async def test_no_descriptor_is_inherited(tmp_path: Path) -> None:
    inheritable, writer = os.pipe()
    os.set_inheritable(inheritable, True)
    try:
        async with bench(tmp_path) as b:
            out = await b.ok(
                "import os, stat\n"
                "for fd in range(3, 200):\n"
                "    try: mode = os.fstat(fd).st_mode\n"
                "    except OSError: continue\n"
                "    print(stat.S_ISSOCK(mode), stat.S_ISDIR(mode))"
            )
            kinds = out.splitlines()
            assert kinds.count("True False") in (1, 2)
            # As root one directory is held open too: the way to the interpreter's library.
            assert set(kinds) <= {"True False", "False True"}
    finally:
        os.close(inheritable)
        os.close(writer)


async def test_nothing_of_the_server_can_be_imported(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert "ModuleNotFoundError" in (await b.run("import rlm_server")).error
        assert "ModuleNotFoundError" in (await b.run("import msgspec")).error


async def test_scratch_is_writable_and_removed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        where = await b.ok(
            "import os, tempfile\nopen('f', 'w').write('x')\n"
            "assert tempfile.mkdtemp().startswith(os.getcwd())\nprint(os.getcwd())"
        )
    assert not Path(where.strip()).exists()


# ------------------------------------------------------------------------------- hostile channel

SOCKETS = """
import os, stat, struct
FDS = [fd for fd in range(3, 100) if os.path.exists(f'/proc/self/fd/{fd}')
       and stat.S_ISSOCK(os.fstat(fd).st_mode)]
def raw(data):
    for fd in FDS:
        os.write(fd, data)
"""


@pytest.mark.parametrize(
    "attack",
    [
        "raw(b'\\xff' * 4096)",
        "raw(b'\\xff\\xff\\xff\\xff')",
        "raw(struct.pack('>I', 4) + b'null')",
        "raw(struct.pack('>I', 100_000) + b'[' * 100_000)",
        'b = b\'{"type":"call","id":"x","function":1}\'; raw(struct.pack(\'>I\', len(b)) + b)',
        'b = b\'{"type":"output","text":"\\xff"}\'; raw(struct.pack(\'>I\', len(b)) + b)',
    ],
)
async def test_hostile_frames_end_only_the_cell(tmp_path: Path, attack: str) -> None:
    async with bench(tmp_path) as b:
        result = await b.run(SOCKETS + attack + "\nwhile True: pass", 5)
        assert result.status == "died"
        assert "protocol" in result.error
        assert await b.ok("print(len(context))") == "11\n"


async def test_half_a_frame_does_not_stop_the_clock(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        result = await b.run(SOCKETS + "raw(b'\\x00\\x10\\x00\\x00abc')\nwhile True: pass", 0.2)
        assert result.status == "timeout"
        assert await b.ok("1") == "1\n"


async def test_calls_that_are_never_read_do_not_stop_the_clock(tmp_path: Path) -> None:
    async def on_call(call: Call) -> CallReply:
        return CallReply("z" * (1 << 20))

    code = SOCKETS + (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while 'order' not in frame.f_locals: frame = frame.f_back\n"
        "TOKEN = frame.f_locals['order']['token']\n"
        "for i in range(1500):\n"
        '    b = (\'{"type":"call","id":%d,"function":"llm_query","prompt":"y",\'\n'
        '         \'"model":null,"token":"%s"}\' % (i, TOKEN)).encode()\n'
        "    raw(struct.pack('>I', len(b)) + b)\n"
        "while True: pass"
    )
    async with bench(tmp_path, on_call=on_call) as b:
        assert (await b.run(code, 1.0)).status == "timeout"
        assert await b.ok("1") == "1\n"


async def test_a_forged_end_does_not_reach_the_next_cell(tmp_path: Path) -> None:
    forged = (
        'b = b\'{"type":"done","token":"guess","error":"forged","answer":"f",\''
        "b'\"ready\":true}'\nraw(struct.pack('>I', len(b)) + b)"
    )
    async with bench(tmp_path) as b:
        assert (await b.run(SOCKETS + forged)).status == "ok"
        result = await b.run("print('mine')")
        assert (result.status, result.output, result.ready) == ("ok", "mine\n", False)


async def test_an_interrupt_at_any_early_moment_loses_no_variable(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.ok("x = 1")
        for turns in range(12):
            cell = asyncio.create_task(b.run("while True: pass"))
            for _ in range(turns):
                await asyncio.sleep(0)
            b.repl.interrupt()
            if turns:
                assert (await cell).status == "cancelled"
            else:  # there was none yet
                await asyncio.sleep(0)
                b.repl.interrupt()
                await cell
        assert await b.ok("print(x)") == "1\n"
