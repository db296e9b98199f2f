"""Looking after servers over real sockets: vLLM's and Ollama's own pages."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from rlm_server.config import Config, ModelConfig, PoolConfig
from rlm_server.models import Models
from rlm_server.models.deployments import Deployment
from rlm_server.models.health import check, checkable
from rlm_server.models.server import Server
from scripted_provider import Reply, ScriptedProvider

METRICS = """# HELP vllm:num_requests_running Number of requests
vllm:num_requests_running{engine="0",model_name="x"} 3.0
vllm:num_requests_waiting{engine="0",model_name="x"} 2.0
vllm:num_requests_waiting_by_reason{engine="0"} 7.0
"""
QUESTION = [{"role": "user", "content": "Why?"}]


def server(model: str, url: str | None) -> Server:
    settings = ModelConfig(model=model, base_url=url)
    return Server(Deployment(name="m", settings=settings, source="config"))


def now() -> float:
    return 100.0


async def checked(model: str, paths: dict, *, out: bool = False) -> Server:
    async with ScriptedProvider([], other_paths=paths) as provider:
        url = provider.url if model.startswith("hosted_vllm") else provider.url.removesuffix("/v1")
        it = server(model, url)
        if out:
            it.leave_out(now())
        await check(it, now)
    return it


async def test_vllm_tells_its_health_and_the_work_that_others_gave_it() -> None:
    it = await checked("hosted_vllm/x", {"/health": "", "/metrics": METRICS})
    assert (it.others, it.detail) == (5, "5 calls of others")
    assert it.open(now())


async def test_an_engine_that_is_dead_is_left_out_and_one_that_is_well_may_come_back() -> None:
    it = await checked("hosted_vllm/x", {"/health": 503})
    assert not it.open(now())
    assert it.detail == "/health answers 503"
    it = await checked("hosted_vllm/x", {"/health": ""}, out=True)
    assert it.open(now())
    assert it.health(now()) == "trying"  # a call decides


async def test_a_server_without_such_a_page_is_judged_by_its_calls_alone() -> None:
    for out in (False, True):
        it = await checked("hosted_vllm/x", {}, out=out)
        assert it.open(now()) is not out


async def test_nothing_there_is_noticed_before_a_call_does() -> None:
    async with ScriptedProvider([]) as provider:
        url = provider.url
    it = server("hosted_vllm/x", url)
    await check(it, now)
    assert (it.health(now()), it.detail) == ("down", "nothing answers")


async def test_what_speaks_no_http_says_nothing() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with listener:
        it = server("hosted_vllm/x", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1")
        await check(it, now)
    assert it.health(now()) == "untried"


@pytest.mark.parametrize(
    ("running", "detail"),
    [([{"name": "qwen3:latest"}], "model loaded"), ([{"name": "other"}], "model not loaded")],
)
async def test_ollama_tells_whether_the_model_is_loaded(running: list, detail: str) -> None:
    it = await checked("ollama_chat/qwen3", {"/api/ps": {"models": running}})
    assert it.detail == detail
    assert it.open(now())


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("hosted_vllm/x", "https://gpu.example.org/v1"),
        ("hosted_vllm/x", None),
        ("openai/x", "http://127.0.0.1:1/v1"),
    ],
)
def test_only_what_tells_its_health_in_the_open_is_asked(model: str, url: str | None) -> None:
    assert not checkable(server(model, url))


@asynccontextmanager
async def watched(script, paths, clock, every: float = 0.01):
    async with ScriptedProvider(script, other_paths=paths) as provider:
        settings = ModelConfig(model="hosted_vllm/x", base_url=provider.url)
        pool = PoolConfig(health_seconds=every)
        config = Config(discover=False, models={"m": settings}, pool=pool)
        models = Models(config, {}, clock=clock)
        try:
            yield models, provider
        finally:
            await models.close()


async def test_servers_are_looked_at_while_they_are_in_use_and_no_longer() -> None:
    passed = 0.0
    gate = asyncio.Event()

    def clock() -> float:
        return time.monotonic() + passed

    def tasks() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks()}

    paths = {"/health": "", "/metrics": METRICS}
    async with watched(lambda _: Reply("Yes.", wait=gate), paths, clock) as (models, provider):
        assert "health of model servers" not in tasks()
        call = asyncio.create_task(models.complete("m", QUESTION))
        await provider.arrived(1)
        passed += 3600.0  # a call that takes an hour is use all the same
        await asyncio.wait_for(provider.looked("/metrics", 3), 60)
        assert models.list()[0].deployments[0].detail == "4 calls of others"
        gate.set()
        await call
        passed += 60.0
        (watching,) = (t for t in asyncio.all_tasks() if t.get_name() == "health of model servers")
        await asyncio.wait_for(watching, 60)
        await models.complete("m", QUESTION)
        assert "health of model servers" in tasks()


async def test_what_was_told_long_ago_is_asked_anew_when_a_server_is_used_again() -> None:
    paths = {"/health": "", "/metrics": METRICS}
    async with watched(lambda _: "Yes.", paths, time.monotonic, every=3600.0) as (models, provider):
        await models.complete("m", QUESTION)
        await asyncio.wait_for(provider.looked("/metrics"), 60)


async def test_the_command_shows_the_health_of_what_is_not_in_use() -> None:
    async with watched([], {"/health": 500}, time.monotonic) as (models, _):
        info = (await models.examine())[0]
    assert (info.health, info.deployments[0].detail) == ("down", "/health answers 500")
