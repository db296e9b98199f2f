"""What a cell may say or ask is bounded, so that the server is neither stopped nor filled by it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rlm_server.sandbox import Batching, Call, CallReply, CellResult
from rlm_server.sandbox import cell as cell_module
from sandbox_support import Bench, bench

FORGE = """
channel = llm_query.__self__._channel
def say(kind, **fields):
    channel.send({"type": kind, "token": channel.token, **fields})
def ask(**fields):
    say("call", **{"id": 1, "function": "llm_query", "prompt": "x", "model": None, **fields})
def end(**fields):
    say("done", **{"error": "", "answer": None, "ready": False, **fields})
many = [[0, 1]] * 513
"""


async def run(one: Bench, code: str, *, batch: bool = False) -> CellResult:
    return await one.repl.run(
        code,
        timeout=60,
        on_output=lambda stream, text: None,
        batching=Batching(lambda line: None) if batch else None,
    )


@pytest.mark.parametrize(
    "forged",
    [
        "ask(holds=many)",
        "end(read=many)",
        "end(looked_at=many)",
        "ask(id=1 << 53)",
        "ask(id=-1)",
        "ask(id=10 ** 30)",
        "say('ahead', line=10 ** 30)",
    ],
)
async def test_a_message_beyond_all_bounds_ends_the_process(tmp_path: Path, forged: str) -> None:
    async with bench(tmp_path) as one:
        # It sleeps so that nothing but the server can end it.
        result = await run(one, f"{FORGE}\n{forged}\nimport time; time.sleep(3600)", batch=True)
        assert result.status == "died"
        assert "broke the protocol" in result.error
        assert (await run(one, "1 + 1")).output.strip() == "2"


async def test_as_many_stretches_as_may_be_told_are_taken(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        result = await run(one, f"{FORGE}\nend(read=many[1:])")
        assert result.status == "ok"
        assert len(result.read) == 512


async def test_prompts_in_flight_are_bounded_by_their_size_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_module, "CHARACTERS_AT_ONCE", 250)
    now, sizes, waited = 0, list[int](), asyncio.Event()

    async def answer(call: Call) -> CallReply:
        nonlocal now
        now += len(call.prompt)
        sizes.append(now)
        if len(sizes) == 2:
            waited.set()
        await waited.wait()
        now -= len(call.prompt)
        return CallReply("")

    async with bench(tmp_path, on_call=answer) as one:
        result = await run(one, "len(llm_query_batched(['x' * 100] * 9 + ['y' * 1000]))")
    assert result.output.strip() == "10"
    assert sorted(set(sizes)) == [100, 200, 1000]  # what is larger than the bound goes alone


DEEP = [
    "for x in 'ab':\n    print(llm_query(" + " + ".join(["'a'"] * 300) + " + x))",
    "n = 3\nfor x in 'ab':\n    if n == 0: pass\n"
    + "".join(f"    elif n == -{n}: pass\n" for n in range(200))
    + "    print(llm_query(x))",
]


@pytest.mark.parametrize("code", DEEP)
async def test_a_cell_that_is_too_deep_to_be_foreseen_runs(tmp_path: Path, code: str) -> None:
    async with bench(tmp_path) as one:
        result = await run(one, code, batch=True)
    assert (result.status, result.error) == ("ok", "")
    assert result.output.count("echo: ") == 2
