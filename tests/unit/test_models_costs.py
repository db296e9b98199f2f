"""The costs: noted by month, project and model, unknown where unknown, and limited beforehand."""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager

import pytest

from rlm_server.config import Config, CostsConfig, ModelConfig
from rlm_server.errors import BudgetError
from rlm_server.models import Account, Completion, Models
from rlm_server.models.costs import Costs
from rlm_server.protocol import Usage
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NOVEMBER = time.mktime((2026, 11, 15, 12, 0, 0, 0, 0, -1))
MONTH = 31 * 86_400
GREEN, BLUE, NONE = Account("1", "green"), Account("2", "blue"), Account("3")


class Clock:
    now = NOVEMBER

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "state"


@pytest.fixture
def start():
    opened = []

    def make(clock=None, **settings) -> Costs:
        opened.append(Costs(CostsConfig(**settings), clock=clock or Clock()))
        return opened[-1]

    yield make
    for costs in opened:
        costs.close()


def used(cost: float | None, model: str = "m", cached: bool = False) -> Completion:
    usage = Usage(prompt_tokens=10, completion_tokens=2, cached_tokens=1, cost=cost)
    return Completion(text="", usage=usage, model=model, seconds=0.0, cached=cached)


async def test_costs_are_told_by_month_project_and_model(start) -> None:
    clock = Clock()
    costs = start(clock)
    costs.record(Account("0", "green"), used(9.0))
    clock.now += MONTH
    for account, cost, model in ((GREEN, 1.0, "m"), (GREEN, 0.5, "m"), (BLUE, 2.0, "n")):
        costs.record(account, used(cost, model))
    costs.record(Account("9", "green"), used(0.0, cached=True))
    result = await costs.report(12)
    rows = [(r.month, r.project, r.model, r.runs, r.calls, r.cached_calls) for r in result.rows]
    assert rows == [
        ("2026-12", "blue", "n", 1, 1, 0),
        ("2026-12", "green", "m", 2, 3, 1),
        ("2026-11", "green", "m", 1, 1, 0),
    ]
    assert [row.cost for row in result.rows] == [2.0, 1.5, 9.0]
    assert (result.month, result.spent, result.limit) == ("2026-12", 3.5, None)
    assert result.rows[1].prompt_tokens == 30
    assert len((await costs.report(1)).rows) == 2


async def test_an_unknown_cost_stays_unknown(start) -> None:
    costs = start()
    for cost in (1.0, None):
        costs.record(NONE, used(cost))
    result = await costs.report(1)
    row = result.rows[0]
    assert (row.project, row.cost, row.known_cost, row.unknown_calls) == (None, None, 1.0, 1)
    assert (result.spent, result.unknown_calls) == (1.0, 1)


def test_a_limit_refuses_before_the_call(start) -> None:
    costs = start(monthly_limit=1.0)
    costs.record(BLUE, used(0.6))
    with costs.room(GREEN, 0.3):
        with pytest.raises(
            BudgetError, match=r"\$1\.00 a month leaves no room.*set aside"
        ) as caught:
            costs.room(GREEN, 0.2).__enter__()
        assert "monthly-limit in [costs]" in caught.value.cure
    with costs.room(GREEN, 0.4):
        pass
    with costs.room(GREEN, 0.0):
        pass
    costs.record(BLUE, used(0.5))
    with costs.room(GREEN, 0.0):
        pass
    with pytest.raises(BudgetError):
        costs.room(GREEN, 0.0001).__enter__()


def test_a_project_has_its_own_limit(start) -> None:
    costs = start(project_limits={"green": 1.0})
    costs.record(BLUE, used(5.0))
    costs.record(GREEN, used(0.9))
    with costs.room(BLUE, 5.0), costs.room(NONE, 5.0), costs.room(GREEN, 0.05):
        pass
    with pytest.raises(BudgetError, match="for green") as caught:
        costs.room(GREEN, 0.2).__enter__()
    assert "project-limits for 'green'" in caught.value.cure


def test_a_new_month_begins_at_nothing(start) -> None:
    clock = Clock()
    costs = start(clock, monthly_limit=1.0)
    costs.record(GREEN, used(1.0))
    with pytest.raises(BudgetError):
        costs.room(GREEN, 0.5).__enter__()
    clock.now += MONTH
    with costs.room(GREEN, 0.5):
        pass


def test_no_limit_can_be_kept_with_an_unknown_price(start) -> None:
    with start().room(GREEN, None):
        pass
    with pytest.raises(BudgetError, match="price is unknown") as caught:
        start(monthly_limit=1.0).room(GREEN, None).__enter__()
    assert "input-price" in caught.value.cure


def test_what_other_servers_have_spent_counts(start) -> None:
    one, other = start(monthly_limit=1.0), start(monthly_limit=1.0)
    one.record(GREEN, used(0.9))
    one._database.flush()
    with pytest.raises(BudgetError):
        other.room(BLUE, 0.2).__enter__()


async def test_without_the_file_only_a_limit_refuses(start, state, caplog) -> None:
    state.mkdir()
    (state / "costs.db").write_bytes(b"no database at all" * 99)
    costs = start()
    costs.record(GREEN, used(1.0))
    with costs.room(GREEN, 1.0):
        pass
    assert "can't be used" in (await costs.report(1)).problem
    with pytest.raises(BudgetError, match="can't be used"):
        start(monthly_limit=1.0).room(GREEN, 0.1).__enter__()
    assert "not noted" in caplog.text


def test_a_limit_refuses_while_the_file_is_locked(start, state, monkeypatch) -> None:
    monkeypatch.setattr("rlm_server.models.database.READ_WAIT", 0.01)
    monkeypatch.setattr("rlm_server.models.database.WRITE_WAIT", 0.01)
    costs = start(monthly_limit=1.0)
    costs.record(GREEN, used(0.2))
    costs.flush()
    costs.close()
    lock = sqlite3.connect(state / "costs.db", isolation_level=None)
    lock.execute("PRAGMA locking_mode = EXCLUSIVE")
    lock.execute("BEGIN IMMEDIATE")
    lock.execute("CREATE TABLE t (x)")
    with pytest.raises(BudgetError, match="is locked"):
        costs.room(GREEN, 0.1).__enter__()
    costs.record(GREEN, used(0.7))
    costs.flush()  # can't be written now, and is not lost
    lock.close()
    costs.flush()
    with pytest.raises(BudgetError, match=r"\$0\.9000 is spent"):
        start(monthly_limit=1.0).room(GREEN, 0.2).__enter__()


@asynccontextmanager
async def served(script, costs=None, **settings):
    async with ScriptedProvider(script) as provider:
        settings = {"model": "openai/scripted", "base_url": provider.url, "retries": 0} | settings
        config = Config(
            discover=False, models={"m": ModelConfig(**settings)}, costs=costs or CostsConfig()
        )
        models = Models(config, {})
        try:
            yield models, provider
        finally:
            await models.close()


async def ask(models: Models, account: Account, question: str = "Why?") -> Completion:
    messages = [{"role": "user", "content": question}]
    return await models.complete("m", messages, account=account)


async def test_a_call_beyond_the_limit_never_leaves() -> None:
    costs = CostsConfig(monthly_limit=0.01)
    async with served([], costs, input_price=1.0, output_price=2.0) as (models, provider):
        with pytest.raises(BudgetError, match=r"leaves no room for a call of up to \$0\.0164"):
            await ask(models, GREEN)
        assert provider.requests == []


async def test_a_long_prompt_is_held_against_the_limit_at_the_price_of_long_prompts() -> None:
    costs = CostsConfig(monthly_limit=0.5)
    config = Config(
        discover=False,
        costs=costs,
        models={"m": ModelConfig(model="gemini/gemini-2.5-pro", key_env="KEY")},
    )
    models = Models(config, {"KEY": "sk-x"})
    with pytest.raises(BudgetError, match=r"a call of up to \$0\.6229"):
        await ask(models, GREEN, "x" * 600_003)  # 200,002 tokens; $0.3319 at the usual price
    await models.close()


async def test_calls_at_once_do_not_pass_the_limit_together() -> None:
    costs = CostsConfig(monthly_limit=0.05)
    gate = asyncio.Event()
    priced = {"input_price": 1.0, "output_price": 2.0}
    async with served(lambda _: Reply("So.", wait=gate), costs, **priced) as (models, provider):
        tasks = [asyncio.create_task(ask(models, GREEN, f"{n}?")) for n in range(9)]
        await provider.arrived(3)
        gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done].count(BudgetError) == 6
    assert len(provider.requests) == 3


async def test_kept_answers_are_noted_and_cost_nothing() -> None:
    costs = CostsConfig(monthly_limit=0.02)
    usage = {"prompt_tokens": 1000, "completion_tokens": 5000, "total_tokens": 6000}
    priced = {"input_price": 1.0, "output_price": 2.0}
    async with served([Reply("So.", usage=usage)], costs, **priced) as (models, _):
        for project in ("green", "blue"):
            await ask(models, Account(project, project))
        result = await models.costs.report(1)
    assert [(r.project, r.calls, r.cached_calls, r.cost) for r in result.rows] == [
        ("green", 1, 0, 0.011),
        ("blue", 1, 1, 0.0),
    ]
