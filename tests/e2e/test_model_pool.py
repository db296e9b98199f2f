"""Runs over several model servers at once: one that dies, one that a run is cancelled over."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from engine_harness import cell, final
from rpc_client import initialize_params, start_server
from scripted_provider import Reply, Request, ScriptedProvider

CALLS = 60
ASK = cell(f"r = llm_query_batched([f'{{n}} ' + context[:50] for n in range({CALLS})])")
SUM = final('str(len(r)) + " replies, " + str(sum(x == "Yes." for x in r)) + " good"')


@asynccontextmanager
async def serving(tmp_path: Path, servers: list[ScriptedProvider], *, slots: int = 8):
    """An rlm server whose only model all of these serve."""
    entries = ", ".join(f'{{base-url = "{server.url}"}}' for server in servers)
    (tmp_path / "config.toml").write_text(
        'root = "m"\ndiscover = false\n[cache]\nenabled = false\n'
        "[pool]\nhealth-seconds = 0.05\n[models.m]\n"
        f'model = "hosted_vllm/x"\nslots = {slots}\ntimeout = 30\ndeployments = [{entries}]\n'
    )
    async with start_server(tmp_path) as (client, _):
        await client.request("initialize", initialize_params())
        yield client


async def ask(client) -> str:
    params = {"question": "What?", "sources": [{"kind": "text", "text": "alpha\n" * 99}]}
    return (await client.request("rlm/ask", params))["runId"]


def root(request: Request) -> Reply:
    turn = sum(message["role"] == "assistant" for message in request.messages)
    return Reply([ASK, SUM][turn])


async def test_a_run_survives_a_server_that_dies_and_uses_it_when_it_is_back(
    tmp_path: Path,
) -> None:
    """Four servers of different speeds; the fastest dies under its calls and comes back."""
    arrived = asyncio.Event()
    back = asyncio.Event()

    async with AsyncExitStack() as stack:
        servers: list[ScriptedProvider] = []

        def script(number: int):
            def reply(request: Request) -> Reply:
                if request.role == "root":
                    return root(request)
                if number == 0 and not back.is_set():
                    arrived.set()
                    return Reply(silent=True)
                return Reply("Yes.", delay=0.02 * number)

            return reply

        pages = {"/health": "", "/metrics": "vllm:num_requests_running 0\n"}
        for number in range(4):
            provider = ScriptedProvider(script(number), other_paths=pages)
            servers.append(await stack.enter_async_context(provider))
        first = servers[0]
        async with serving(tmp_path, servers) as client:
            run_id = await ask(client)
            await asyncio.wait_for(arrived.wait(), 60)
            await first.__aexit__(None)  # it dies with calls in flight
            end = await client.event(run_id, "runEnded")
            assert end["status"] == "done", end
            answer = client.of(run_id, "answer")[-1]["text"]
            assert answer == f"{CALLS} replies, {CALLS} good"
            (model,) = [m for m in await models(client) if m["name"] == "m"]
            assert model["deployments"][0]["health"] in ("down", "trying")
            assert model["inFlight"] == model["waiting"] == 0

            back.set()
            again = ScriptedProvider(script(0), other_paths=pages, port=first.port)
            await stack.enter_async_context(again)
            await asyncio.wait_for(again.looked("/health"), 60)  # the health check finds it
            run_id = await ask(client)
            end = await client.event(run_id, "runEnded")
            assert end["status"] == "done", end
            (model,) = [m for m in await models(client) if m["name"] == "m"]
            assert model["deployments"][0]["health"] == "ok"
            assert len(again.requests) > 0
    assert all(server.requests for server in servers)


async def test_cancelling_a_run_closes_64_sockets_before_its_end_is_told(tmp_path: Path) -> None:
    """How long that takes is for the benchmark ``bench_cancel.py`` to say."""
    asking = cell("r = llm_query_batched([str(n) for n in range(64)])")

    def script(request: Request) -> Reply:
        return Reply(asking) if request.role == "root" else Reply(silent=True)

    async with (
        ScriptedProvider(script) as provider,
        serving(tmp_path, [provider], slots=64) as client,
    ):
        run_id = await ask(client)
        await asyncio.wait_for(provider.arrived(65), 60)
        silent = [request for request in provider.requests if request.role == "sub"]
        assert len(silent) == 64
        assert not any(request.closed.is_set() for request in silent)
        await client.request("rlm/cancel", {"runId": run_id})
        end = await client.event(run_id, "runEnded")
        for _ in range(10):  # what has come over sockets is looked at after the pipe
            await asyncio.sleep(0)
        assert all(request.closed.is_set() for request in silent)
        (model,) = [m for m in await models(client) if m["name"] == "m"]
    assert end["status"] == "cancelled"
    assert model["inFlight"] == model["waiting"] == 0


async def test_a_conversation_keeps_its_beginning_and_its_server(tmp_path: Path) -> None:
    """So that the server finds all earlier turns in its prefix cache."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                ScriptedProvider(lambda r: root(r) if r.role == "root" else Reply("Yes."))
            )
            for _ in range(3)
        ]
        async with serving(tmp_path, servers) as client:
            run_id = await ask(client)
            await client.event(run_id, "runEnded")
    turns = [[r for r in server.requests if r.role == "root"] for server in servers]
    ((first, second),) = [requests for requests in turns if requests]
    whole = json.dumps(second.messages)
    assert whole.startswith(json.dumps(first.messages)[:-1])


async def models(client) -> list[dict]:
    return (await client.request("rlm/status"))["models"]
