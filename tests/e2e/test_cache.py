"""A run that is asked again: the same answer, at once, for nothing, and seen to be so."""

import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine_harness import cell, final
from rpc_client import initialize_params, server_environment, start_server
from scripted_provider import Reply, ScriptedProvider


def script(request) -> Reply:
    """A root that asks the same twice in a batch, and a sub that never says the same twice."""
    if request.role == "sub":
        script.said += 1
        return Reply(f"guess {script.said}")
    turn = sum(message["role"] == "assistant" for message in request.messages)
    code = "r = llm_query_batched([context[:5]] * 2)\nprint(r)"
    return Reply([cell(code), final("' and '.join(sorted(r))")][turn])


@pytest.fixture
async def provider():
    script.said = 0
    async with ScriptedProvider(script) as provider:
        yield provider


def configure(home: Path, provider: ScriptedProvider, more: str = "") -> None:
    (home / "config.toml").write_text(
        'root = "scripted"\ndiscover = false\n[models.scripted]\nmodel = "openai/scripted"\n'
        f'base-url = "{provider.url}"\ninput-price = 1.0\noutput-price = 2.0\n{more}'
    )


@asynccontextmanager
async def server(home: Path, *arguments: str):
    async with start_server(home, *arguments) as (client, _):
        await client.request("initialize", initialize_params())
        yield client


async def ask(client, **options):
    """Ask the one question; the end, the answer, and which replies and sub-calls were kept."""
    params = {
        "question": "What is in it?",
        "sources": [{"kind": "text", "text": "alpha\nbeta\n", "name": "greek.txt"}],
        "options": options,
    }
    run_id = (await client.request("rlm/ask", params))["runId"]
    end = await client.event(run_id, "runEnded")
    assert end["status"] == "done", end
    answer = "".join(event["text"] for event in client.of(run_id, "answer"))
    replies = [event["cached"] for event in client.of(run_id, "replyDone")]
    subcalls = [event["cached"] for event in client.of(run_id, "subcallDone")]
    return end, answer, replies, subcalls


def command(home: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "rlm_server", *arguments],
        env=server_environment(home), capture_output=True, text=True, check=True, timeout=50,
    ).stdout  # fmt: skip


async def test_asking_again_pays_nothing_and_gets_the_same(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as client:
        end, answer, replies, subcalls = await ask(client)
        assert (answer, replies, subcalls) == ("guess 1 and guess 2", [False] * 2, [False] * 2)
        assert end["usage"]["cost"] > 0
        asked = len(provider.requests)
    async with server(tmp_path) as client:
        end, answer, replies, subcalls = await ask(client)
        assert (answer, replies, subcalls) == ("guess 1 and guess 2", [True] * 2, [True] * 2)
        assert end["usage"]["cost"] == 0
        assert end["usage"]["cachedTokens"] == end["usage"]["promptTokens"] > 0
        assert len(provider.requests) == asked


async def test_one_can_ask_without_the_cache_and_anew(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as client:
        await ask(client)
        assert (await ask(client, noCache=True))[1] == "guess 3 and guess 4"
        assert (await ask(client))[1] == "guess 1 and guess 2"
        assert (await ask(client, fresh=True))[1] == "guess 5 and guess 6"
        assert (await ask(client))[1] == "guess 5 and guess 6"
    async with server(tmp_path, "--no-cache") as client:
        assert (await ask(client))[1] == "guess 7 and guess 8"


async def test_two_servers_share_what_is_kept(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as one, server(tmp_path) as other:
        await ask(one)
        assert (await ask(other))[2:] == ([True] * 2, [True] * 2)
        assert (await ask(other, fresh=True))[1] == "guess 3 and guess 4"
        assert (await ask(one))[1] == "guess 3 and guess 4"


async def test_a_broken_file_costs_a_warning_and_no_run(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "answers.db").write_bytes(b"not a database" * 100)
    async with server(tmp_path) as client:
        assert (await ask(client))[1] == "guess 1 and guess 2"
        assert (await ask(client))[1] == "guess 3 and guess 4"
        rows = (await client.request("rlm/doctor"))["rows"]
        row = next(row for row in rows if row["part"] == "kept answers")
        assert (row["status"], "cache clear" in row["cure"]) == ("warning", True)
    stderr = (tmp_path / "stderr").read_text()
    assert stderr.count("answers.db can't be used") == 1
    command(tmp_path, "cache", "clear")
    async with server(tmp_path) as client:
        await ask(client)
        assert (await ask(client))[2] == [True] * 2


async def test_what_is_kept_can_be_shown_exported_and_removed(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as client:
        await ask(client)
    assert "Answers   4\n" in command(tmp_path, "cache")
    kept = [json.loads(line) for line in command(tmp_path, "cache", "export").splitlines()]
    assert {"guess 1", "guess 2"} < {row["entry"]["text"] for row in kept}
    assert all(row["entry"]["model"] == "openai/scripted" for row in kept)
    assert command(tmp_path, "cache", "clear") == "4 answers removed.\n"
    assert command(tmp_path, "cache", "export") == ""
