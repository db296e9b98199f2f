"""Tools in a run: told to the model, called by its code, seen in its events, and nothing else."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from engine_harness import Played, ScriptedModels, cell, final, play, prepare, resume
from rlm_server.config import Config, McpConfig, ToolConfig
from rlm_server.protocol import Notice, SubcallDelta, SubcallDone, SubcallStarted
from rlm_server.tools import Toolbox
from streamed_root import stream, whole

MCP_SERVER = Path(__file__).parent.parent / "mcp_server_process.py"

MODULE = """
import asyncio, threading

calls = []
begun, cancelled = threading.Event(), threading.Event()

def price(item: str, amount: int = 1) -> dict[str, int]:
    '''Look up a price.'''
    calls.append(item)
    return {"item": item, "cents": 250 * amount}

def long(characters: int) -> str:
    '''Say much.'''
    return "x" * characters

async def wait() -> None:
    '''Wait for ever.'''
    begun.set()
    try:
        await asyncio.sleep(3600)
    finally:
        cancelled.set()
"""


@pytest.fixture
async def toolbox(tmp_path: Path):
    file = tmp_path / "my_tools.py"
    file.write_text(MODULE)
    names = ("price", "long", "wait")
    box = Toolbox(Config(tools={name: ToolConfig(python=f"{file}:{name}") for name in names}))
    yield box
    await box.close()


def module(box: Toolbox) -> dict:
    return box._tools["price"]._function.__globals__


def printed(run: Played) -> str:
    return run.told(1)


async def test_the_model_is_told_and_its_code_calls(tmp_path: Path, toolbox: Toolbox) -> None:
    code = 'p = price("boat", amount=2)\nprint(p["cents"], type(p).__name__)\nprint(price.__doc__)'
    run = await play(tmp_path, [cell(code), final("str(p['cents'])")], toolbox=toolbox)
    assert run.answer == "500"
    assert "500 dict" in printed(run)
    assert "price(item: str, amount: int = 1) -> dict[str, int]\n\nLook up a price." in printed(run)
    system, user = run.models.prompts[0]
    assert (
        "- price(item: str, amount: int = 1) -> dict[str, int]: Look up a price."
        in (user["content"])
    )
    assert user["content"].index("price(item") > user["content"].index("gamma")
    assert "price" not in system["content"]  # the stable prefix stays what it is
    (started,), (done,) = run.of(SubcallStarted), run.of(SubcallDone)
    assert (started.tool, started.model, started.node) == ("price", "", "0.1.1")
    assert json.loads(started.prompt) == {"args": ["boat"], "kwargs": {"amount": 2}}
    assert (done.status, json.loads(done.answer)) == ("ok", {"item": "boat", "cents": 500})
    assert (run.end.subcalls, run.end.usage.cost) == (1, 0.0)


async def test_without_tools_there_is_nothing_of_them(tmp_path: Path) -> None:
    run = await play(tmp_path, [cell("context; print('ToolError' in globals())"), final()])
    assert "False" in printed(run)
    assert "ToolError" not in str(run.models.prompts[0])


async def test_errors_are_exceptions_that_the_code_may_catch(
    tmp_path: Path, toolbox: Toolbox
) -> None:
    code = (
        "context\nfor wrong in (3, object()):\n    try:\n        price(wrong)\n"
        "    except (ToolError, TypeError) as error:\n        print(type(error).__name__, error)\n"
        "price('a', 'b')"
    )
    run = await play(tmp_path, [cell(code), final()], toolbox=toolbox)
    assert "ToolError price(item: str" in printed(run)
    assert "item: Expected `str`, got `int`" in printed(run)
    assert "TypeError price takes what JSON has" in printed(run)
    assert "ToolError: price(item: str" in printed(run)
    assert module(toolbox)["calls"] == []
    errors = [done.error for done in run.of(SubcallDone)]
    assert [error.kind for error in errors] == ["tool", "tool"]


async def test_text_of_the_context_is_passed_as_text(tmp_path: Path, toolbox: Toolbox) -> None:
    code = "context\nprint(price(context[:5])['item'], price(context.documents[0])['item'])"
    run = await play(tmp_path, [cell(code), final()], toolbox=toolbox)
    assert "alpha alpha\nbeta\ngamma" in printed(run)


async def test_a_long_result_comes_in_pieces_and_too_long_a_one_not(
    tmp_path: Path, toolbox: Toolbox
) -> None:
    code = "context\nprint(len(long(40_000)))\nlong(2_000_000)"
    run = await play(tmp_path, [cell(code), final()], toolbox=toolbox)
    assert "40000" in printed(run)
    assert "returned 2,000,002 characters (limit 1,000,000)" in printed(run)
    pieces = [event.text for event in run.of(SubcallDelta)]
    whole = "".join(pieces) + run.of(SubcallDone)[0].answer
    assert (len(whole), max(map(len, pieces))) == (40_002, 16_384)


async def test_calls_count_against_the_limit_of_sub_calls(tmp_path: Path, toolbox) -> None:
    code = "context\nfor n in range(5):\n    print(price(str(n))['item'])"
    run = await play(tmp_path, [cell(code), final()], toolbox=toolbox, subcalls=3)
    assert module(toolbox)["calls"] == ["0", "1", "2"]
    assert "the limit of 3 sub-calls is reached" in printed(run).lower()


FORGERIES = {
    "a tool that is not configured": '{"function": "tool", "prompt": "{}", "tool": "os.system"}',
    "no tool": '{"function": "tool", "prompt": "{}", "tool": ""}',
    "arguments that are none": '{"function": "tool", "prompt": "[", "tool": "price"}',
    "deep arguments": '{"function": "tool", "prompt": DEEP, "tool": "price"}',
    "wrong arguments": """{"function": "tool", "tool": "price",
        "prompt": '{"args": [{"__class__": "x"}]}'}""",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_call_gets_an_error_and_nothing_else(
    tmp_path: Path, toolbox: Toolbox, forgery: str
) -> None:
    """A cell that speaks to the server past the functions that it was given."""
    code = (
        "context\nchannel = price.__closure__[0].cell_contents\n"
        "DEEP = '{\"args\": ' + '[' * 100_000 + ']' * 100_000 + '}'\n"
        f"reply = channel.ask([{{'model': None, **{forgery}}}])[0]\n"
        "print(reply['error']['kind'], reply['text'] == '')"
    )
    run = await play(tmp_path, [cell(code), final()], toolbox=toolbox)
    assert "tool True" in printed(run)
    assert module(toolbox)["calls"] == []
    assert run.end.status == "done"


async def test_without_a_toolbox_a_forged_call_finds_none(tmp_path: Path) -> None:
    code = (
        "context\nchannel = llm_query.__self__._channel\n"
        "call = {'function': 'tool', 'prompt': '{}', 'model': None, 'tool': 'price'}\n"
        "print(channel.ask([call])[0]['error'])"
    )
    run = await play(tmp_path, [cell(code), final()])
    assert "No tools are offered" in printed(run)


async def test_cancelling_the_run_cancels_the_tool(tmp_path: Path, toolbox: Toolbox) -> None:
    played = prepare(tmp_path, [cell("context\nwait()"), final()], toolbox=toolbox)
    task = played.run.start()
    while "wait" not in toolbox._tools:
        await asyncio.sleep(0)
    await asyncio.to_thread(module(toolbox)["begun"].wait, 30)
    played.run.cancel(None)
    await task
    assert played.end.status == "cancelled"
    assert module(toolbox)["cancelled"].is_set()
    assert [done.status for done in played.of(SubcallDone)] == ["cancelled"]


async def test_a_child_run_has_them_too(tmp_path: Path, toolbox: Toolbox) -> None:
    replies = [
        cell('context\nx = rlm_query("what?", "text")'),
        cell('context\nFINAL(price("oar")["item"])'),
        final("x"),
    ]
    config = Config(max_depth=2, depth_models=["root"])
    run = await play(tmp_path, replies, toolbox=toolbox, config=config)
    assert run.answer == "oar"
    assert [each.node for each in run.of(SubcallStarted)] == ["0.1.1.1.1"]


async def test_a_tool_that_is_missing_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    box = Toolbox(
        Config(
            tools={"gone": ToolConfig(python="no_such_module:f")},
            mcp={"t": McpConfig(command=[sys.executable, str(MCP_SERVER)], tools=["add"])},
        )
    )
    run = await play(tmp_path, [cell("context\nx = t_add(40, 2)"), final("str(x)")], toolbox=box)
    await box.close()
    assert run.answer == "42"
    (notice,) = run.of(Notice)
    assert "[tools.gone]: no_such_module can't be imported" in notice.text


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("by_child", [False, True])
async def test_a_cell_that_begins_early_calls_no_tool_before_it_is_sure(
    tmp_path: Path, toolbox: Toolbox, breaks: bool, by_child: bool
) -> None:
    """What a tool does can't be undone; the reply may break off."""
    calling = 'p = price("boat")'
    config = Config(max_depth=2, depth_models=["root-1"])
    played = prepare(
        tmp_path, [cell(f"context\n{calling}\nFINAL(p)")], toolbox=toolbox, config=config
    )
    if by_child:
        calling = 'p = {"cents": rlm_query("How much?", "a text") and 250}'
    reached = asyncio.Event()
    sub = played.run._calls.sub

    async def noticed(parent, call, *rest, **more):
        if call.function == "tool":
            reached.set()
        return await sub(parent, call, *rest, **more)

    played.run._calls.sub = noticed
    before: list[list[str]] = []

    async def reply(listener) -> str:
        text = cell(f"context\n{calling}")
        listener.delta("text", text)
        await reached.wait()
        await asyncio.sleep(0)
        before.append(list(module(toolbox)["calls"]))
        if breaks:
            listener.restarted("the connection broke")
            text = cell("p = {'cents': context and 1}")
            listener.delta("text", text)
        return text

    await asyncio.wait_for(stream(played, reply, whole(final("str(p['cents'])"))), 60)
    assert before == [[]]
    assert module(toolbox)["calls"] == ([] if breaks else ["boat"])
    assert played.answer == ("1" if breaks else "250")


async def test_a_resumed_run_makes_no_call_again_that_its_log_has(
    tmp_path: Path, toolbox: Toolbox
) -> None:
    """A run that was killed in its second iteration: what its tools did was done once."""
    replies = [
        cell('context\np = price("boat")\nlong(40_000)'),
        cell('q = price("oar")'),
        final("str(p['cents'] + q['cents'])"),
    ]
    (tmp_path / "killed").mkdir()
    played = await play(tmp_path / "killed", replies, toolbox=toolbox)
    lines = played.run.log.path.read_bytes().splitlines(keepends=True)
    second = next(n for n, line in enumerate(lines) if b'"0.2"' in line)
    again = resume(tmp_path, b"".join(lines[:second]), ScriptedModels(replies[1:]), toolbox=toolbox)
    await asyncio.wait_for(again.run.start(), 50)
    assert again.answer == played.answer == "500"
    assert module(toolbox)["calls"] == ["boat", "oar", "oar"]
    assert again.end.subcalls == 3
