"""Several servers under one name, and other models to fall back to, over real sockets."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from rlm_server.config import Config, ModelConfig, PoolConfig
from rlm_server.errors import ConfigError, ContextTooLongError, RefusedError, UnreachableError
from rlm_server.models import Models
from scripted_provider import Reply, ScriptedProvider

QUESTION = [{"role": "user", "content": "Why?"}]


class Ear:
    def __init__(self) -> None:
        self.told: list[str] = []

    def delta(self, part: str, text: str) -> None:
        pass

    def restarted(self, reason: str) -> None:
        self.told.append(reason)

    def notice(self, text: str) -> None:
        self.told.append(text)


def config(name: str = "m", *, pool: PoolConfig | None = None, others=None, **settings) -> Config:
    settings = {"model": "hosted_vllm/x", "retries": 1} | settings
    models = {name: ModelConfig(**settings), **(others or {})}
    return Config(discover=False, models=models, pool=pool or PoolConfig())


@asynccontextmanager
async def served(*scripts, environ=None, pool=None, others=None, settings=(), **more):
    """One model, served by as many servers as there are scripts."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedProvider(s)) for s in scripts]
        entries = [{"base-url": s.url} for s in servers]
        for entry, extra in zip(entries, settings, strict=False):
            entry.update(extra)
        models = Models(
            config(pool=pool, others=others, deployments=entries, **more), environ or {}
        )
        try:
            yield models, servers
        finally:
            await models.close()


def always(reply: Reply | str):
    return lambda _: reply


async def test_calls_are_spread_over_all_servers() -> None:
    gate = asyncio.Event()
    script = always(Reply("Yes.", wait=gate))
    async with served(script, script, script, slots=4) as (models, servers):
        tasks = [asyncio.create_task(models.complete("m", QUESTION)) for _ in range(12)]
        for server in servers:
            await server.arrived(4)
        info = models.list()[0]
        assert (info.in_flight, info.slots, info.waiting) == (12, 12, 0)
        gate.set()
        done = await asyncio.gather(*tasks)
    assert {completion.model for completion in done} == {"m"}
    assert [server.most_in_flight for server in servers] == [4, 4, 4]


async def test_a_failure_goes_to_another_server_at_once() -> None:
    ear = Ear()
    broken = always(Reply("oh", status=500))
    async with served(broken, always("Yes.")) as (models, _):
        for _ in range(8):
            assert (await models.complete("m", QUESTION, listener=ear)).text == "Yes."
    assert all("Asking another server." in told for told in ear.told)
    assert len(ear.told) <= 3  # then it is left out


async def test_a_server_whose_key_is_wrong_does_not_draw_the_calls() -> None:
    async with served(always(Reply("no", status=401)), always("Yes.")) as (models, servers):
        for _ in range(10):
            await models.complete("m", QUESTION)
        health = [each.health for each in models.list()[0].deployments]
    assert len(servers[0].requests) == 1
    assert health == ["down", "ok"]


async def test_a_bad_request_is_asked_of_nobody_else() -> None:
    bad = always(Reply("bad temperature", status=400))
    async with served(bad, bad) as (models, servers):
        with pytest.raises(RefusedError):
            await models.complete("m", QUESTION)
    assert sum(len(server.requests) for server in servers) == 1


async def test_each_server_gets_its_own_key_and_one_without_a_key_gets_no_call() -> None:
    settings = [{"key-env": "ONE"}, {"key-env": "TWO"}, {"key-env": "THREE"}]
    environ = {"ONE": "key-of-one", "TWO": "key-of-two"}
    script = always("Yes.")
    async with served(script, script, script, environ=environ, settings=settings) as (models, s):
        await asyncio.gather(*(models.complete("m", QUESTION) for _ in range(6)))
        assert [each.health for each in models.list()[0].deployments] == ["ok", "ok", "no key"]
        assert s[2].requests == []
        assert models.add_keys({"m#3": "key-of-three"}) == ["m#3"]
        await asyncio.gather(*(models.complete("m", QUESTION) for _ in range(48)))
    for server, key in zip(s, ("key-of-one", "key-of-two", "key-of-three"), strict=True):
        assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {key}"}


async def test_a_slow_server_is_helped_by_a_second_one_when_that_is_wanted() -> None:
    stuck = Reply("Too late.", wait=asyncio.Event())
    quick = iter([*["Yes."] * 25, stuck])
    script = lambda _: next(quick, "Yes.")  # noqa: E731
    async with served(script, always("Hedged."), pool=PoolConfig(hedge=True)) as (models, servers):
        models._dispatch.groups.clear()
        for _ in range(25):
            await models.complete("m", QUESTION)
        group = models._dispatch.groups["m"]
        first = next(s for s in group.servers if s.deployment.settings.base_url == servers[0].url)
        while len(servers[0].requests) < 26:  # until the one that is stuck has been asked
            first.latency.observe(0.0001, models._clock())
            completion = await models.complete("m", QUESTION)
        await asyncio.wait_for(servers[0].requests[25].closed.wait(), 60)
    assert (completion.text, completion.hedged) == ("Hedged.", True)


# ------------------------------------------------------------------------------------- fallbacks


async def test_another_model_is_asked_when_none_of_the_servers_can_answer() -> None:
    ear = Ear()
    async with ScriptedProvider(always("Instead.")) as other:
        spare = {"spare": ModelConfig(model="hosted_vllm/y", base_url=other.url)}
        async with served(
            always(Reply("oh", status=503)), others=spare, fallbacks=["spare"], retries=0
        ) as (models, _):
            completion = await models.complete("m", QUESTION, listener=ear)
    assert (completion.text, completion.model) == ("Instead.", "spare")
    assert "Asking spare instead." in ear.told[-1]


async def test_where_all_fail_the_error_is_the_first_ones() -> None:
    async with ScriptedProvider(always(Reply("also", status=500))) as other:
        spare = {"spare": ModelConfig(model="hosted_vllm/y", base_url=other.url, retries=0)}
        async with served([], others=spare, fallbacks=["spare"], retries=0) as (models, servers):
            await servers[0].__aexit__(None)
            with pytest.raises(UnreachableError, match="Its fallback failed too: spare failed"):
                await models.complete("m", QUESTION)


async def test_a_prompt_that_is_too_long_may_fit_a_fallback_and_a_refusal_stays_one() -> None:
    replies = [Reply("maximum context length is 9", status=400), Reply("bad", status=400)]
    async with ScriptedProvider(always("Fits.")) as other:
        spare = {"spare": ModelConfig(model="hosted_vllm/y", base_url=other.url)}
        async with served(replies, others=spare, fallbacks=["spare"]) as (models, _):
            assert (await models.complete("m", QUESTION)).text == "Fits."
            with pytest.raises(RefusedError):
                await models.complete("m", QUESTION)


async def test_without_a_fallback_too_long_is_an_error() -> None:
    async with served(always(Reply("maximum context length is 9", status=400))) as (models, _):
        with pytest.raises(ContextTooLongError):
            await models.complete("m", QUESTION)


# --------------------------------------------------------------------------------- configuration


def test_an_entry_takes_over_what_it_does_not_say_itself() -> None:
    settings = config(
        slots=4,
        window=1000,
        params={"temperature": 0.0},
        deployments=[
            {"base-url": "http://127.0.0.1:1/v1"},
            {"base-url": "http://10.0.0.2:1/v1", "slots": 32, "window": 500},
        ],
    )
    models = Models(settings, {})
    info = models.list()[0]
    assert [(d.name, d.tier, d.slots) for d in info.deployments] == [
        ("m#1", "local", 4),
        ("m#2", "lan", 32),
    ]
    assert (info.window, models.window("m"), info.slots) == (500, 500, 36)
    members = models._catalogue.members_of("m")
    assert [member.params for member in members] == [{"temperature": 0.0}] * 2


def test_another_provider_gets_no_key_header_or_price_of_the_first() -> None:
    settings = config(
        model="openai/x",
        key_env="SECRET",
        headers={"x-secret": "abc"},
        params={"seed": 1},
        input_price=1.0,
        output_price=2.0,
        slots=3,
        deployments=[{}, {"model": "hosted_vllm/x", "base-url": "http://10.0.0.2:1/v1"}],
    )
    models = Models(settings, {"SECRET": "sk-secret-secret"})
    first, second = models._catalogue.members_of("m")
    assert (first.settings.key_env, first.settings.headers) == ("SECRET", {"x-secret": "abc"})
    assert (second.settings.key_env, second.settings.headers) == (None, {})
    assert (second.params, second.settings.slots) == ({}, 3)
    assert models.price("m") == (1.0, 2.0)
    assert not models.free("m")


def test_the_price_is_the_highest_that_may_be_asked_for() -> None:
    spare = {"spare": ModelConfig(model="openai/y", input_price=3.0, output_price=9.0, key_env="K")}
    settings = config(base_url="http://127.0.0.1:1/v1", others=spare, fallbacks=["spare"])
    models = Models(settings, {"K": "k"})
    assert models.price("m") == (3.0, 9.0)
    assert models.list()[0].input_price == 0.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"deployments": [{}, {"slot": 3}]}, r"Deployment 2 of \[models\.m\].*`slot`"),
        ({"deployments": [{"slots": 0}]}, "Deployment 1"),
        ({"deployments": [{"deployments": []}]}, "belong to the table"),
        ({"deployments": [{"params": {"stream": True}}]}, r"deployment 1 of \[models\.m\] params"),
        ({"fallbacks": ["m"]}, "no other model"),
        ({"fallbacks": ["nobody"]}, "'nobody'"),
        ({"transport": "http"}, "no base-url"),
    ],
)
def test_what_can_not_be_used_is_named(settings: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Models(config(**settings), {})
    assert caught.value.cure
