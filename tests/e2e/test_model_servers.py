"""A run through litellm against a model server that streams, fails, stalls or talks nonsense."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine_harness import cell, final
from rpc_client import initialize_params, start_server
from scripted_provider import Reply, ScriptedProvider

CANARY = "sk-canary-0123456789abcdef"
OF_A_GATEWAY = "pk-canary-fedcba9876543210"
"""A key in a header, which the configuration has to hold."""


@asynccontextmanager
async def served(tmp_path: Path, script, **model: object):
    """A server whose default model is the scripted provider."""
    async with ScriptedProvider(script) as provider:
        settings = {"transport": "litellm", "timeout": 20, "retries": 2, **model}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        (tmp_path / "config.toml").write_text(
            'root = "scripted"\ndiscover = false\n[models.scripted]\nmodel = "openai/scripted"\n'
            f'key-env = "SCRIPTED_KEY"\nbase-url = "{provider.url}"\n'
            f"input-price = 1.0\noutput-price = 2.0\n{lines}"
        )
        async with start_server(tmp_path, SCRIPTED_KEY=CANARY) as (client, _):
            await client.request("initialize", initialize_params())
            yield client, provider


async def ask(client, **options: object) -> str:
    params = {
        "question": "What is in it?",
        "sources": [{"kind": "text", "text": "alpha\nbeta\n", "name": "greek.txt"}],
        "options": options,
    }
    return (await client.request("rlm/ask", params))["runId"]


def script(request) -> Reply:
    """Act as a root model that asks a sub model twice, or as that sub model."""
    if request.role == "sub":
        return Reply(f"about {request.question[:3]}")
    turn = sum(message["role"] == "assistant" for message in request.messages)
    code = "r = llm_query_batched([d.path + d for d in context.documents] * 2)\nprint(r)"
    return Reply([cell(code), final('"see greek.txt:2: " + r[0]')][turn], reasoning="Hmm.")


async def test_a_run_through_litellm_streams_counts_and_costs(tmp_path: Path) -> None:
    async with served(tmp_path, script) as (client, provider):
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
    assert (end["status"], end["subcalls"]) == ("done", 2)
    assert end["usage"]["promptTokens"] > 100
    assert end["usage"]["cost"] > 0
    answer = client.of(run_id, "answer")[-1]
    assert answer["text"] == "see greek.txt:2: about gre"
    assert [e["line"] for e in answer["evidence"]] == [2]
    parts = {e["part"] for e in client.of(run_id, "replyDelta")}
    assert parts == {"prose", "code", "fence", "reasoning"}
    assert len([r for r in provider.requests if r.body.get("stream")]) == 2
    assert all(r.headers["authorization"] == f"Bearer {CANARY}" for r in provider.requests)


async def test_the_key_is_in_no_artefact(tmp_path: Path) -> None:
    def refuse(request) -> Reply:
        return Reply(status=401, body=json.dumps({"error": {"message": f"bad {CANARY}"}}).encode())

    async with served(tmp_path, refuse) as (client, _):
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
        await client.request("rlm/doctor")
        assert CANARY not in json.dumps(client.messages)
    assert end["error"]["kind"] == "refused"
    assert not with_canary(tmp_path)


@pytest.mark.parametrize("transport", ["http", "litellm"])
@pytest.mark.parametrize("source", ["environment", "command"])
async def test_a_whole_run_leaves_the_key_nowhere(
    tmp_path: Path, source: str, transport: str
) -> None:
    """In no log, kept answer, note of costs, printed line; and in no core dump to be."""
    more = {} if source == "environment" else {"key_command": ["sh", "-c", 'echo "$OTHER_VAULT"']}
    async with ScriptedProvider(script) as provider:
        (tmp_path / "config.toml").write_text(
            'root = "scripted"\ndiscover = false\n[models.scripted]\nmodel = "openai/scripted"\n'
            f'base-url = "{provider.url}"\ninput-price = 1.0\noutput-price = 2.0\n'
            f'transport = "{transport}"\nheaders = {{x-portkey-api-key = "{OF_A_GATEWAY}"}}\n'
            + ('key-env = "SCRIPTED_KEY"\n' if not more else "key-command = ")
            + (json.dumps(more["key_command"]) if more else "")
        )
        variable = "OTHER_VAULT" if more else "SCRIPTED_KEY"
        async with start_server(tmp_path, "--verbose", **{variable: CANARY}) as (client, process):
            await client.request("initialize", initialize_params())
            for _ in range(2):  # paid, then kept
                end = await client.event(await ask(client), "runEnded")
                assert end["status"] == "done", end
            costs = await client.request("rlm/costs")
            for method in ("rlm/status", "rlm/doctor"):
                await client.request(method)
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert CANARY not in json.dumps(client.messages)
            assert OF_A_GATEWAY not in json.dumps(client.messages)
    assert {r.headers["x-portkey-api-key"] for r in provider.requests} == {OF_A_GATEWAY}
    assert [r.headers["authorization"] for r in provider.requests] == [f"Bearer {CANARY}"] * 4
    assert (costs["rows"][0]["calls"], costs["rows"][0]["cachedCalls"]) == (8, 4)
    assert re.search(r"Max core file size +0 ", limits)
    assert {"answers.db", "costs.db"} < {path.name for path in tmp_path.rglob("*")}
    assert (tmp_path / "stderr").stat().st_size > 0
    assert not with_canary(tmp_path)
    assert [path.name for path in with_canary(tmp_path, OF_A_GATEWAY)] == ["config.toml"]


def with_canary(directory: Path, canary: str = CANARY) -> list[Path]:
    """The files that have the key in them."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if canary.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=401), "refused"),
        (Reply(status=404), "refused"),
        (Reply(status=429, headers={"retry-after": "0"}), "rateLimited"),
        (Reply(status=500), "transient"),
        (Reply(body=b"<html>nonsense</html>", content_type="text/html"), "transient"),
        (Reply(choices=False), "transient"),
        (Reply(silent=True), "transient"),
    ],
    ids=["401", "404", "429", "500", "garbage", "no choices", "nothing"],
)
async def test_a_failing_model_server_is_a_typed_error_in_the_run(
    tmp_path: Path, reply: Reply, kind: str
) -> None:
    async with served(tmp_path, lambda _: reply, timeout=1, retries=1) as (client, _):
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
        assert end["status"] == "failed"
        assert end["error"]["kind"] == kind, end
        assert end["error"]["cure"]
        assert await client.request("rlm/status")


async def test_an_unreachable_model_server_is_said_to_be(tmp_path: Path) -> None:
    async with served(tmp_path, script, retries=0) as (client, provider):
        await provider.__aexit__(None)
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
    assert end["error"]["kind"] == "unreachable", end


async def test_a_passing_fault_is_retried_and_told(tmp_path: Path) -> None:
    replies = [Reply(status=500), Reply(final())]
    async with served(tmp_path, replies) as (client, _):
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
    assert end["status"] == "done"
    assert any("again" in e["text"].lower() for e in client.of(run_id, "notice"))


async def test_a_reply_that_breaks_off_is_asked_for_again(tmp_path: Path) -> None:
    replies = [Reply(final('"wrong"'), disconnect_after=3), Reply(final())]
    async with served(tmp_path, replies) as (client, _):
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
    assert end["status"] == "done", end
    assert client.of(run_id, "answer")[-1]["text"] == "42"
    assert any("broke off" in e["text"] for e in client.of(run_id, "notice"))


async def test_cancelling_in_mid_reply_closes_the_connection(tmp_path: Path) -> None:
    reply = Reply(final(), hold_after=2, wait=asyncio.Event())
    async with served(tmp_path, [reply]) as (client, provider):
        run_id = await ask(client)
        await client.event(run_id, "replyDelta")
        assert (await client.request("rlm/cancel", {"runId": run_id}))["cancelled"]
        end = await client.event(run_id, "runEnded")
        await asyncio.wait_for(provider.requests[0].closed.wait(), 60)
    assert end["status"] == "cancelled"


async def test_a_missing_key_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'root = "cloud"\ndiscover = false\n[models.cloud]\nmodel = "openai/gpt-4.1-mini"\n'
    )
    async with start_server(tmp_path) as (client, _):
        result = await client.request("initialize", initialize_params())
        assert result["keysWanted"] == [{"name": "cloud", "host": "api.openai.com"}]
        run_id = await ask(client)
        end = await client.event(run_id, "runEnded")
        assert end["error"]["kind"] == "noKey"
        assert "OPENAI_API_KEY" in str(end["error"])
        accepted = await client.request("rlm/keys", {"keys": {"cloud": CANARY, "other": "x"}})
        assert accepted == {"accepted": ["cloud"]}
        status = await client.request("rlm/status")
        assert CANARY not in json.dumps(status)


async def test_a_cost_limit_refuses_a_call_before_it_is_made(tmp_path: Path) -> None:
    async with served(tmp_path, script) as (client, provider):
        run_id = await ask(client, limits={"cost": 0.001})
        end = await client.event(run_id, "runEnded")
    assert (end["status"], provider.requests) == ("limit", [])
    assert "cost limit" in end["reason"]
