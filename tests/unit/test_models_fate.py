"""Who pays for a call that brought no reply: whoever had it sent, once; nobody who only waited."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine_harness import ScriptedModels, cell, final, prepare
from rlm_server.config import Config, ModelConfig
from rlm_server.errors import ModelError
from rlm_server.models import Account, Fate, Models
from rlm_server.protocol import Usage
from scripted_provider import Reply, ScriptedProvider

QUESTION = [{"role": "user", "content": "Why?"}]
THOUGHT = Reply(
    "", finish_reason="length", usage={"prompt_tokens": 1000, "completion_tokens": 8000}
)


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))


class Bench:
    def __init__(self, provider: ScriptedProvider, models: Models) -> None:
        self.provider = provider
        self.models = models
        self.fates: list[Fate] = []

    def ask(self, run: str, text: str = "Why?") -> asyncio.Task:
        self.fates.append(Fate())
        return asyncio.create_task(
            self.models.complete(
                "m",
                [{"role": "user", "content": text}],
                account=Account(run),
                fate=self.fates[-1],
            )
        )

    @property
    def paid_if_cancelled(self) -> list[int]:
        return [fate.under_way for fate in self.fates]


@asynccontextmanager
async def bench(script, **settings):
    async with ScriptedProvider(script) as provider:
        settings = {"model": "openai/x", "base_url": provider.url, "input_price": 1.0} | settings
        model = ModelConfig(output_price=10.0, **settings)
        models = Models(Config(discover=False, models={"m": model}), {}, sleep=no_pause)
        try:
            yield Bench(provider, models)
        finally:
            await models.close()


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


async def leave(*tasks: asyncio.Task) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_call_that_only_waited_for_a_slot_was_not_sent() -> None:
    async with bench([Reply(silent=True)], slots=1) as it:
        tasks = [it.ask("1", str(number)) for number in range(5)]
        await it.provider.arrived(1)
        await leave(*tasks)
    assert it.paid_if_cancelled == [1, 0, 0, 0, 0]


async def test_a_call_between_two_tries_is_not_with_a_server() -> None:
    async with bench([Reply(status=500), "So."]) as it:
        assert (await it.ask("1")).text == "So."
    assert it.paid_if_cancelled == [0]


async def test_of_those_who_wait_for_one_call_nobody_pays_who_leaves_it_to_others() -> None:
    gate = asyncio.Event()
    async with bench([Reply("So.", wait=gate)]) as it:
        first, second, third = (it.ask(run) for run in "123")
        await it.provider.arrived(1)
        await leave(first, third)
        gate.set()
        assert (await second).text == "So."
        rows = (await it.models.costs.report(1)).rows
    assert it.paid_if_cancelled == [0, 0, 0]
    assert sum(row.calls - row.cached_calls for row in rows) == 1


async def test_of_those_who_wait_for_one_call_one_pays_for_its_late_tries() -> None:
    async with bench([Reply(silent=True)], timeout=0.1, retries=0) as it:
        tasks = [it.ask(run) for run in "123"]
        await asyncio.wait(tasks)
    assert [fate.late for fate in it.fates] == [1, 0, 0]


async def test_the_last_to_leave_pays() -> None:
    async with bench([Reply(silent=True)]) as it:
        first, second = (it.ask(run) for run in "12")
        await it.provider.arrived(1)
        await leave(first)
        await leave(second)
    assert it.paid_if_cancelled == [0, 1]


@pytest.mark.parametrize("transport", ["auto", "litellm"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_a_reply_that_was_all_thought_is_paid_once_and_told(transport: str) -> None:
    async with bench(lambda _: THOUGHT, transport=transport) as it:
        with pytest.raises(ModelError, match="used up the tokens") as caught:
            await it.ask("1")
        costs = await it.models.costs.report(1)
    assert len(it.provider.requests) == 1
    assert "max_tokens" in caught.value.cure
    assert it.fates[0].lost == Usage(prompt_tokens=1000, completion_tokens=8000, cost=0.081)
    assert (costs.rows[0].calls, costs.spent) == (1, pytest.approx(0.081))


async def test_an_empty_reply_is_paid_beside_the_one_that_follows() -> None:
    empty = Reply("", usage={"prompt_tokens": 1000, "completion_tokens": 0})
    full = Reply("So.", usage={"prompt_tokens": 1000, "completion_tokens": 100})
    async with bench([empty, full]) as it:
        answer = await it.ask("1")
        costs = await it.models.costs.report(1)
    assert answer.usage.cost == pytest.approx(0.002)
    assert costs.spent == pytest.approx(0.003)


class Lossy(ScriptedModels):
    """Each sub-call loses a reply before it answers; one that is asked ``fail`` has no other."""

    async def complete(self, name, messages, **options):
        if name == "sub":
            options["fate"].lose(Usage(prompt_tokens=100, cost=0.5))
            if messages[-1]["content"] == "fail":
                raise ModelError("all thought")
        return await super().complete(name, messages, **options)


async def test_a_run_counts_replies_that_were_no_good(tmp_path: Path) -> None:
    code = "context\nllm_query('well')\ntry:\n    llm_query('fail')\nexcept SubcallError: pass"
    run = prepare(tmp_path, [])
    run.run._models = run.run._calls._models = run.models = Lossy([cell(code), final()])
    await asyncio.wait_for(run.run.start(), 50)
    assert run.end.status == "done"
    assert run.end.usage.prompt_tokens == 2 * 10 + 100 + 10 + 100
    assert run.end.usage.cost == 1.0


class Queued(ScriptedModels):
    """No sub-call ever gets a slot."""

    async def complete(self, name, messages, **options):
        if name != "sub":
            return await super().complete(name, messages, **options)
        self.waits.set()
        return await asyncio.Future()


async def test_a_run_pays_for_no_sub_call_that_was_never_sent(tmp_path: Path) -> None:
    run = prepare(tmp_path, [])
    models = Queued([cell("context\nllm_query('x' * 100_000)")])
    models.prices, models.waits = {"sub": (1.0, 1.0)}, asyncio.Event()
    run.run._models = run.run._calls._models = run.models = models
    playing = run.run.start()
    await asyncio.wait_for(models.waits.wait(), 60)
    run.run.cancel("0")
    await asyncio.wait_for(playing, 60)
    assert (run.end.status, run.end.usage.prompt_tokens, run.end.usage.cost) == ("cancelled", 10, 0)
