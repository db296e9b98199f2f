"""A run through litellm against a model server that streams, fails, stalls or talks nonsense."""

import asyncio
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import tomli_w

from engine_harness import cell, final
from rpc_client import initialize_params, start_server
from scripted_provider import Reply, ScriptedProvider

CANARY = "sk-canary-0123456789abcdef"
OF_A_GATEWAY = "pk-canary-fedcba9876543210"
"""A key in a header, which the configuration has to hold."""


@asynccontextmanager
async def served(tmp_path: Path, scripts, own=None, arguments=(), **settings: object):
    """A server with a model for each script, by its name, and a provider behind each.

    The settings are those of all models but for what ``own`` says of one. litellm takes three
    seconds of a processor in each server: what differs in its model alone is tested in one.
    """
    common = {"key-env": "SCRIPTED_KEY", "transport": "litellm", "timeout": 20, "retries": 2}
    common |= {"input-price": 1.0, "output-price": 2.0, **settings}
    async with AsyncExitStack() as stack:
        providers, models = {}, {}
        for name, script in scripts.items():
            provider = await stack.enter_async_context(ScriptedProvider(script))
            place = {"model": f"openai/{name}", "base-url": provider.url}
            models[name] = common | place | (own or {}).get(name, {})
            providers[name] = provider
        config = {"root": next(iter(models)), "discover": False, "models": models}
        (tmp_path / "config.toml").write_text(tomli_w.dumps(config))
        keys = {"SCRIPTED_KEY": CANARY, "OTHER_VAULT": CANARY}
        started = start_server(tmp_path, *arguments, **keys)
        client, process = await stack.enter_async_context(started)
        await client.request("initialize", initialize_params())
        yield client, providers, process


async def ask(client, model: str | None = None, **options: object) -> str:
    params = {
        "question": "What is in it?",
        "sources": [{"kind": "text", "text": "alpha\nbeta\n", "name": "greek.txt"}],
        "options": {"rootModel": model, "subModel": model, **options},
    }
    return (await client.request("rlm/ask", params))["runId"]


async def ends(client, models) -> dict:
    """How runs with each of these models end that are asked for at once."""
    runs = {model: await ask(client, model) for model in models}
    return {model: await client.event(run, "runEnded") for model, run in runs.items()}


def script(request) -> Reply:
    """Act as a root model that asks a sub model twice, or as that sub model."""
    if request.role == "sub":
        return Reply(f"about {request.question[:3]}")
    turn = sum(message["role"] == "assistant" for message in request.messages)
    code = "r = llm_query_batched([d.path + d for d in context.documents] * 2)\nprint(r)"
    return Reply([cell(code), final('"see greek.txt:2: " + r[0]')][turn], reasoning="Hmm.")


async def test_a_run_through_litellm_streams_counts_and_costs(tmp_path: Path) -> None:
    async with served(tmp_path, {"scripted": script}) as (client, providers, _):
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
    requests = providers["scripted"].requests
    assert len([r for r in requests if r.body.get("stream")]) == 2
    assert all(r.headers["authorization"] == f"Bearer {CANARY}" for r in requests)


async def test_a_whole_run_leaves_the_key_nowhere(tmp_path: Path) -> None:
    """In no log, kept answer, note of costs, printed line; and in no core dump to be."""

    def refuse(request) -> Reply:
        return Reply(status=401, body=json.dumps({"error": {"message": f"bad {CANARY}"}}).encode())

    of_a_command = {"key-command": ["sh", "-c", 'echo "$OTHER_VAULT"'], "key-env": ""}
    own = {
        "environment-http": {"transport": "http"},
        "environment-litellm": {},
        "command-http": {"transport": "http", **of_a_command},
        "command-litellm": of_a_command,
    }
    scripts = dict.fromkeys(own, script) | {"refusing": refuse}
    headers = {"x-portkey-api-key": OF_A_GATEWAY}
    async with served(tmp_path, scripts, own, ["--verbose"], headers=headers) as (
        client, providers, process,
    ):  # fmt: skip
        for _ in range(2):  # paid, then kept
            for model, end in (await ends(client, own)).items():
                assert end["status"] == "done", (model, end)
        refused = (await ends(client, ["refusing"]))["refusing"]
        costs = await client.request("rlm/costs")
        for method in ("rlm/status", "rlm/doctor"):
            await client.request(method)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert CANARY not in json.dumps(client.messages)
        assert OF_A_GATEWAY not in json.dumps(client.messages)
    for model in own:
        requests = providers[model].requests
        assert {r.headers["x-portkey-api-key"] for r in requests} == {OF_A_GATEWAY}, model
        assert [r.headers["authorization"] for r in requests] == [f"Bearer {CANARY}"] * 4, model
    assert providers["refusing"].requests
    assert refused["error"]["kind"] == "refused"
    rows = {row["model"]: (row["calls"], row["cachedCalls"]) for row in costs["rows"]}
    assert {model: rows[model] for model in own} == dict.fromkeys(own, (8, 4))
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


async def test_a_failing_model_server_is_a_typed_error_in_the_run(tmp_path: Path) -> None:
    faults = {
        "401": (Reply(status=401), "refused"),
        "404": (Reply(status=404), "refused"),
        "429": (Reply(status=429, headers={"retry-after": "0"}), "rateLimited"),
        "500": (Reply(status=500), "transient"),
        "garbage": (Reply(body=b"<html>nonsense</html>", content_type="text/html"), "transient"),
        "no choices": (Reply(choices=False), "transient"),
        "nothing": (Reply(silent=True), "transient"),
        "gone": (Reply(), "unreachable"),
    }
    scripts = {name: lambda _, reply=reply: reply for name, (reply, _) in faults.items()}
    own = {"nothing": {"timeout": 1}, "gone": {"retries": 0}}
    async with served(tmp_path, scripts, own, retries=1) as (client, providers, _):
        await providers["gone"].__aexit__(None)
        ended = await ends(client, faults)
        told = {name: (end["status"], end["error"]["kind"]) for name, end in ended.items()}
        assert told == {name: ("failed", kind) for name, (_, kind) in faults.items()}, ended
        assert all(end["error"]["cure"] for end in ended.values()), ended
        assert await client.request("rlm/status")


async def test_a_passing_fault_is_retried_and_told(tmp_path: Path) -> None:
    scripts = {
        "refusing once": [Reply(status=500), Reply(final())],
        "breaking off once": [Reply(final('"wrong"'), disconnect_after=3), Reply(final())],
    }
    async with served(tmp_path, scripts) as (client, _, _):
        runs = {model: await ask(client, model) for model in scripts}
        for model, run_id in runs.items():
            end = await client.event(run_id, "runEnded")
            assert end["status"] == "done", (model, end)
            assert client.of(run_id, "answer")[-1]["text"] == "42"
    notices = {m: [e["text"] for e in client.of(run, "notice")] for m, run in runs.items()}
    assert any("again" in text.lower() for text in notices["refusing once"])
    assert any("broke off" in text for text in notices["breaking off once"])


async def test_cancelling_in_mid_reply_closes_the_connection(tmp_path: Path) -> None:
    reply = Reply(final(), hold_after=2, wait=asyncio.Event())
    async with served(tmp_path, {"scripted": [reply]}) as (client, providers, _):
        run_id = await ask(client)
        await client.event(run_id, "replyDelta")
        assert (await client.request("rlm/cancel", {"runId": run_id}))["cancelled"]
        end = await client.event(run_id, "runEnded")
        await asyncio.wait_for(providers["scripted"].requests[0].closed.wait(), 60)
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
    async with served(tmp_path, {"scripted": script}) as (client, providers, _):
        run_id = await ask(client, limits={"cost": 0.001})
        end = await client.event(run_id, "runEnded")
    assert (end["status"], providers["scripted"].requests) == ("limit", [])
    assert "cost limit" in end["reason"]
