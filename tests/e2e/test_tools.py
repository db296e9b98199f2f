"""Tools through the whole server: from the configuration to the run, and gone with the server."""

import subprocess
import sys
from pathlib import Path

from engine_harness import cell, final
from processes import gone
from rpc_client import initialize_params, server_environment, start_server
from scripted_provider import Reply, ScriptedProvider

MCP_SERVER = Path(__file__).parent.parent / "mcp_server_process.py"
CODE = 'context\np = price("boat")\nn = t_add(p["cents"], 2)\nprint(t_environment())'


def script(request) -> Reply:
    turn = sum(message["role"] == "assistant" for message in request.messages)
    return Reply([cell(CODE), final("f'{n} for a boat'")][turn])


def configure(home: Path, url: str) -> None:
    (home / "shop.py").write_text(
        "import os\npid = os.getpid()\n"
        "def price(item: str) -> dict:\n    '''Look up a price.'''\n    return {'cents': 40}\n"
    )
    (home / "config.toml").write_text(
        'root = "m"\ndiscover = false\n[models.m]\nmodel = "openai/m"\n'
        f'base-url = "{url}"\nkey-env = "SCRIPTED_KEY"\n'
        f'[tools.price]\npython = "{home}/shop.py:price"\n'
        f'[mcp.t]\ncommand = ["{sys.executable}", "{MCP_SERVER}"]\n'
    )


async def test_configured_tools_answer_and_end_with_the_server(tmp_path: Path) -> None:
    async with ScriptedProvider(script) as provider:
        configure(tmp_path, provider.url)
        async with start_server(tmp_path, SCRIPTED_KEY="sk-canary-0123") as (client, process):
            await client.request("initialize", initialize_params())
            params = {"question": "What?", "sources": [{"kind": "text", "text": "alpha\n"}]}
            run_id = (await client.request("rlm/ask", params))["runId"]
            end = await client.event(run_id, "runEnded")
            assert (end["status"], end["subcalls"]) == ("done", 3), end
            assert client.of(run_id, "answer")[-1]["text"] == "42 for a boat"
            assert [e["tool"] for e in client.of(run_id, "subcallStarted")] == [
                "price",
                "t_add",
                "t_environment",
            ]
            environment = client.of(run_id, "subcallDone")[-1]["answer"]
            assert "SCRIPTED_KEY" not in environment
            told = provider.requests[0].messages[-1]["content"]
            assert "- price(item: str) -> dict: Look up a price." in told
            rows = (await client.request("rlm/doctor"))["rows"]
            (row,) = [row for row in rows if row["part"] == "tools of the model's code"]
            assert row["status"] == "ok"
            assert "price, t_add" in row["detail"]
            children = children_of(process.pid, "mcp_server_process")
            assert children
    await gone(children)


def test_the_command_lists_them_and_what_is_wrong(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9/v1")
    with (tmp_path / "config.toml").open("a") as file:
        file.write('[tools.gone]\npython = "no_such_module:f"\n')
    done = subprocess.run(
        [sys.executable, "-m", "rlm_server", "tools"],
        env=server_environment(tmp_path), capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 1
    assert "price(item: str) -> dict\n    Look up a price.  [tools.price]" in done.stdout
    assert "t_add(a: int, b: int = 1)" in done.stdout
    assert "failure: [tools.gone]: no_such_module can't be imported" in done.stdout


def children_of(pid: int, name: str) -> list[int]:
    """The processes that a process has started whose command has this name in it."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if parent == pid and name in command:
            found.append(int(status.parent.name))
    return found
