"""Python functions as tools: found, typed, called, stopped; only JSON goes in and out."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from rlm_server.config import Config, ToolConfig, load_config, show_config
from rlm_server.errors import ConfigError, ToolError
from rlm_server.tools import Toolbox
from rlm_server.tools.bounds import MOST_IN
from rlm_server.tools.names import TAKEN, check_name

MODULE = '''
import asyncio, enum, threading
from dataclasses import dataclass
from typing import Literal

begun = threading.Event()
release = threading.Event()
cancelled = threading.Event()

@dataclass
class Place:
    city: str
    country: str = "NO"

def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    More of it.
    """
    return a + b

def where(place: Place, unit: Literal["C", "F"] = "C") -> dict:
    return {"place": place, "unit": unit, "type": type(place).__name__}

def anything(value):
    return [value, type(value).__name__]

def only(a: int, /, *, b: str): return [a, b]

def fail(): raise ValueError("no\\nreason")
def leave(): raise SystemExit(3)
async def leave_awaited(): raise SystemExit(3)
def stop(): raise StopIteration
def odd(): return object()
def much(): return "x" * 2_000_000
def late(): raise TimeoutError("of its own")

def block():
    begun.set()
    release.wait(30)

async def wait() -> None:
    begun.set()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        cancelled.set()
        raise

async def soon(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()

def many(*values): return values
def untyped(value: threading.Event): return value
number = 3
'''


@pytest.fixture
async def box_of(tmp_path: Path):
    file = tmp_path / "my_tools.py"
    file.write_text(MODULE)
    boxes = []

    async def make(*functions: str, **settings) -> Toolbox:
        tables = {f"my_{f}": ToolConfig(python=f"{file}:{f}", **settings) for f in functions}
        boxes.append(Toolbox(Config(tools=tables)))
        assert await boxes[-1].find() == []
        return boxes[-1]

    yield make
    for box in boxes:
        await box.close()


async def call(box: Toolbox, name: str, *args, **kwargs):
    return json.loads(await box.call(f"my_{name}", json.dumps({"args": args, "kwargs": kwargs})))


def module(box: Toolbox):
    (tool, *_) = box._tools.values()
    return tool._function.__globals__


async def test_a_function_is_told_and_called(box_of) -> None:
    box = await box_of("add", "where", "anything", "soon", "only")
    told = {info.name: (info.signature, info.doc, info.source) for info in box.infos}
    assert told["my_add"] == ("(a: int, b: int = 1) -> int", "Add two numbers.", "[tools.my_add]")
    assert told["my_anything"] == ("(value)", "", "[tools.my_anything]")
    assert await call(box, "add", 2, b=3) == 5
    assert await call(box, "soon", "text") == "TEXT"
    assert await call(box, "only", 1, b="x") == [1, "x"]
    answer = await call(box, "where", {"city": "Oslo", "country": "NO"}, unit="F")
    assert answer == {"place": {"city": "Oslo", "country": "NO"}, "unit": "F", "type": "Place"}
    assert await call(box, "anything", {"a": [1, None, True]}) == [{"a": [1, None, True]}, "dict"]


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "told"),
    [
        ("add", ["2"], {}, "a: Expected `int`, got `str`"),
        ("add", [2.5], {}, "a: Expected `int`, got `float`"),
        ("add", [True], {}, "a: Expected `int`, got `bool`"),
        ("add", [], {}, "missing a required argument: 'a'"),
        ("add", [1, 2, 3], {}, "too many positional arguments"),
        ("add", [1], {"c": 1}, "unexpected keyword argument 'c'"),
        ("where", [{"city": 3}], {}, "Expected `str`, got `int`"),
        ("where", [{"city": "Oslo"}, "K"], {}, "Invalid enum value 'K'"),
        ("only", [], {"a": 1, "b": "x"}, "'a'"),
    ],
)
async def test_arguments_that_do_not_fit_never_reach_it(box_of, name, args, kwargs, told) -> None:
    box = await box_of(name)
    with pytest.raises(ToolError, match=rf"my_{name}\(.*can't be called so") as caught:
        await call(box, name, *args, **kwargs)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fail", "my_fail failed with ValueError: no reason"),
        ("leave", "it raised SystemExit"),
        ("leave_awaited", "it raised SystemExit"),
        ("stop", "it raised StopIteration"),
        ("late", "failed with TimeoutError: of its own"),
        ("odd", "can't be sent as JSON"),
        ("much", "my_much returned 2,000,002 characters (limit 1,000,000)"),
    ],
)
async def test_what_goes_wrong_in_it_is_an_error_of_the_call(box_of, name, told) -> None:
    box = await box_of(name)
    with pytest.raises(ToolError) as caught:
        await call(box, name)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "null",
        "[]",
        '{"args": {}}',
        '{"args": [], "more": 1}',
        '{"args": [' + "[" * 5000 + "]" * 5000 + "]}",
        '{"args": [' + "[" * 150 + "]" * 150 + "]}",
        '{"args": ["' + "x" * MOST_IN + '"]}',
        '{"args": [NaN]}',
        '{"kwargs": {"a": 1e999}, "args": []}',
    ],
)
async def test_what_is_no_list_of_arguments_is_refused(box_of, arguments: str) -> None:
    box = await box_of("add")
    with pytest.raises(ToolError):
        await box.call("my_add", arguments)


@pytest.mark.parametrize("name", ["add", "my_fail", "os.system", "__import__", "", "x" * 10_000])
async def test_what_is_not_configured_can_not_be_called(box_of, name: str) -> None:
    box = await box_of("add")
    with pytest.raises(ToolError, match="No tool is called") as caught:
        await box.call(name, '{"args": [1]}')
    assert len(str(caught.value)) < 300


async def test_a_function_that_takes_too_long_is_not_waited_for(box_of) -> None:
    box = await box_of("block", "add", timeout=0.05)
    with pytest.raises(ToolError, match=r"did not answer within 0.05 s.*raise timeout"):
        await call(box, "block")
    module(box)["release"].set()
    assert await call(box, "add", 1) == 2


async def test_cancelling_a_call_cancels_the_function(box_of) -> None:
    box = await box_of("wait")
    task = asyncio.create_task(call(box, "wait"))
    await asyncio.to_thread(module(box)["begun"].wait, 20)
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)
    assert module(box)["cancelled"].is_set()


async def test_blocking_functions_run_beside_each_other_and_off_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "meet.py"
    file.write_text(
        "import threading\nbarrier = threading.Barrier(8)\n"
        "def meet():\n    barrier.wait(20)\n    return threading.current_thread().name\n"
    )
    box = Toolbox(Config(tools={"meet": ToolConfig(python=f"{file}:meet")}))
    await box.find()
    names = await asyncio.gather(*(box.call("meet", "{}") for _ in range(8)))
    await box.close()
    assert len(set(names)) == 8
    assert threading.current_thread().name not in names


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("no_such_module:f", "can't be imported: ModuleNotFoundError"),
        ("json:no_such", "has no function 'no_such'"),
        ("json", "python = 'json'"),
        ("relative.py:f", "must be absolute"),
        ("{}:number", "has no function 'number'"),
        ("{}:many", "any number of arguments"),
        ("{}:untyped", "can't be checked"),
    ],
)
async def test_a_function_that_can_not_be_used_is_told_and_tried_again(
    tmp_path: Path, place: str, told: str
) -> None:
    file = tmp_path / "my_tools.py"
    file.write_text(MODULE)
    box = Toolbox(Config(tools={"f": ToolConfig(python=place.format(file))}))
    for _ in range(2):
        (problem,) = await box.find()
        assert told in problem
        assert "[tools.f]" in problem
    assert box.infos == []
    await box.close()


@pytest.mark.parametrize(
    "name", ["", "a-b", "a b", "_x", "1a", "class", "print", "grep", "ä", "x" * 65]
)
def test_a_name_that_is_taken_or_unfit_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        Toolbox(Config(tools={name: ToolConfig(python="json:dumps")}))


def test_all_names_of_the_repl_are_taken() -> None:
    """A tool called like a helper would take its place; the sandbox's own list is the truth."""
    from rlm_server.sandbox.channel import Channel, Interrupts
    from rlm_server.sandbox.child import Repl

    repl = Repl(Channel(None, Interrupts()), Interrupts(), "context", [])
    offered = {name for name in repl.namespace if not name.startswith("_")} | {"ToolError"}
    assert offered == TAKEN
    for name in offered:
        with pytest.raises(ConfigError):
            check_name(name, "it")


def test_tables_are_read_and_secrets_of_servers_masked(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[tools.add]\npython = "m:add"\ntimeout = 3\n'
        '[mcp.a]\ncommand = ["x"]\nenv = {TOKEN = "sk-canary"}\n'
        '[mcp.b]\nurl = "http://u:sk-canary@h/mcp"\nheaders = {x-auth = "sk-canary"}\n'
    )
    config = load_config(file)
    assert config.tools["add"].timeout == 3
    assert "sk-canary" not in show_config(config) + repr(config.mcp)
    assert Toolbox(Config()).empty
