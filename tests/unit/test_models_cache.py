"""Kept answers in front of a real server: who is asked how often, and what a hit costs."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from rlm_server.config import CacheConfig, Config, ModelConfig
from rlm_server.errors import RefusedError
from rlm_server.models import Account, Models
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


class Ear:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def delta(self, part: str, text: str) -> None:
        self.heard.append(text)

    def restarted(self, reason: str) -> None: ...

    def notice(self, text: str) -> None: ...


class Bench:
    def __init__(self, provider: ScriptedProvider, models: Models) -> None:
        self.provider = provider
        self.models = models

    async def ask(self, account: Account | None, name: str = "m", **options):
        return await self.models.complete(name, QUESTION, account=account, **options)


@asynccontextmanager
async def bench(tmp_path, monkeypatch, script, cache=None, other=None, **settings):
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))
    async with ScriptedProvider(script) as provider:
        settings = {"model": "openai/scripted", "base_url": provider.url, "retries": 0} | settings
        models = {"m": ModelConfig(**settings), "n": ModelConfig(**settings | (other or {}))}
        config = Config(discover=False, models=models, cache=cache or CacheConfig())
        it = Bench(provider, Models(config, {}))
        try:
            yield it
        finally:
            await it.models.close()


@pytest.fixture
def start(tmp_path, monkeypatch):
    return lambda script, **settings: bench(tmp_path, monkeypatch, script, **settings)


async def test_a_run_that_asks_twice_gets_two_answers_and_the_next_run_both(start) -> None:
    async with start(["one", "two"], input_price=1.0, output_price=1.0) as it:
        first, second = Account("1"), Account("2")
        said = [(await it.ask(first)).text for _ in range(2)]
        kept = [await it.ask(second) for _ in range(2)]
    assert said == [answer.text for answer in kept] == ["one", "two"]
    assert len(it.provider.requests) == 2
    assert all(answer.cached and answer.usage.cost == 0.0 for answer in kept)
    assert kept[0].usage.prompt_tokens == kept[0].usage.cached_tokens > 0
    assert kept[0].usage.completion_tokens > 0


async def test_kept_answers_outlive_the_server(start) -> None:
    for _ in range(2):
        async with start(["one"]) as it:
            answer = await it.ask(Account("1"))
    assert (answer.text, answer.cached, it.provider.requests) == ("one", True, [])


@pytest.mark.parametrize("params", [{"temperature": 0}, {"seed": 7}])
async def test_a_deterministic_request_has_one_answer(start, params) -> None:
    async with start(["one"], params=params) as it:
        account = Account("1")
        answers = [await it.ask(account) for _ in range(3)]
    assert [answer.cached for answer in answers] == [False, True, True]


async def test_another_name_for_the_same_model_shares_answers(start) -> None:
    async with start(["one"]) as it:
        await it.ask(Account("1"))
        answer = await it.ask(Account("2"), "n")
    assert (answer.cached, answer.model) == (True, "n")


async def test_a_kept_answer_is_streamed_as_one_piece(start) -> None:
    async with start([Reply("It is so.", chunk=2, reasoning="Hmm.")]) as it:
        first, second = Ear(), Ear()
        await it.ask(Account("1"), listener=first)
        await it.ask(Account("2"), listener=second)
    assert len(first.heard) > 3
    assert second.heard == ["It is so."]


@pytest.mark.parametrize(
    "account",
    [None, Account("2", read_cache=False, write_cache=False), Account("2", read_cache=False)],
    ids=["nobody's", "no cache", "fresh"],
)
async def test_who_wants_no_kept_answer_gets_none(start, account) -> None:
    async with start(["one", "two"]) as it:
        await it.ask(Account("1"))
        answer = await it.ask(account)
        then = await it.ask(Account("3"))
    assert (answer.text, answer.cached) == ("two", False)
    renewed = account is not None and account.write_cache
    assert then.text == ("two" if renewed else "one")


async def test_without_a_cache_everything_is_asked(start, tmp_path) -> None:
    async with start(["one", "two"], cache=CacheConfig(enabled=False)) as it:
        await it.ask(Account("1"))
        assert (await it.ask(Account("2"))).text == "two"
    assert not (tmp_path / "cache").exists()


async def test_a_failure_is_not_kept(start) -> None:
    async with start([Reply(status=400), "two"]) as it:
        with pytest.raises(RefusedError):
            await it.ask(Account("1"))
        assert (await it.ask(Account("2"))).text == "two"


async def test_the_embedded_model_is_not_kept(start, tmp_path) -> None:
    async with start([]) as it:
        await it.ask(Account("1"), "offline/extractive")
    assert not (tmp_path / "cache").exists()


# ----------------------------------------------------------------------------- at the same time


async def test_who_asks_the_same_at_the_same_time_waits_for_one_call(start) -> None:
    gate = asyncio.Event()
    async with start([Reply("one", wait=gate)], input_price=1.0, output_price=1.0) as it:
        ear = Ear()
        tasks = [asyncio.create_task(it.ask(Account(str(n)))) for n in range(20)]
        tasks.append(asyncio.create_task(it.ask(Account("20"), listener=ear)))
        await it.provider.arrived(1)
        gate.set()
        answers = await asyncio.gather(*tasks)
    assert len(it.provider.requests) == 1
    assert [answer.text for answer in answers] == ["one"] * 21
    assert [answer.cached for answer in answers] == [False] + [True] * 20
    assert sum(answer.usage.cost for answer in answers) == answers[0].usage.cost > 0
    assert ear.heard == ["one"]


async def test_the_first_may_leave_without_the_others(start) -> None:
    gate = asyncio.Event()
    async with start([Reply("one two", chunk=3, wait=gate, hold_after=2)]) as it:
        ear = Ear()
        first = asyncio.create_task(it.ask(Account("1"), listener=ear))
        other = asyncio.create_task(it.ask(Account("2")))
        await it.provider.arrived(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        heard = list(ear.heard)
        gate.set()
        assert (await other).text == "one two"
    assert ear.heard == heard
    assert len(it.provider.requests) == 1


async def test_the_last_to_leave_closes_the_connection(start) -> None:
    async with start([Reply(silent=True), "two"]) as it:
        tasks = [asyncio.create_task(it.ask(Account(str(n)))) for n in range(3)]
        await it.provider.arrived(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.wait_for(it.provider.requests[0].closed.wait(), 60)
        assert (await it.ask(Account("4"))).text == "two"


async def test_a_failure_is_told_to_all_who_wait(start) -> None:
    gate = asyncio.Event()
    async with start([Reply(status=400, wait=gate)]) as it:
        tasks = [asyncio.create_task(it.ask(Account(str(n)))) for n in range(3)]
        await it.provider.arrived(1)
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RefusedError] * 3


async def test_what_a_substitute_answered_is_not_kept(start) -> None:
    down = [Reply(status=500)]

    def script(request):
        if request.body["model"] == "substitute":
            return "from the substitute"
        return down.pop() if down else "one"

    other = {"model": "openai/substitute", "fallbacks": []}
    async with start(script, fallbacks=["n"], other=other) as it:
        answer = await it.ask(Account("1"))
        assert (answer.text, answer.model) == ("from the substitute", "n")
        assert (await it.ask(Account("2"))).text == "one"
        assert (await it.ask(Account("3"))).cached


async def test_of_deployments_of_two_models_only_the_first_ones_answer_is_kept(start) -> None:
    down = [Reply(status=500)]

    def script(request):
        return f"I am {request.body['model']}."

    near = ScriptedProvider(lambda _: down.pop() if down else "I am scripted.")
    async with near, ScriptedProvider(script) as far:
        entries = [
            {"base-url": near.url},
            {"base-url": far.url, "model": "openai/small", "tier": "lan"},
        ]
        async with start([], deployments=entries, other={"base_url": far.url}) as it:
            assert (await it.ask(Account("1"))).text == "I am small."
            found = await it.ask(Account("2"), "n")
    assert (found.text, found.cached) == ("I am scripted.", False)
