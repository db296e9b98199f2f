"""Replies that are made to do harm: each is a ModelError, and none gives a run its budget back."""

from datetime import UTC, datetime

import pytest

from rlm_server.config import Config, ModelConfig
from rlm_server.errors import ModelError, RateLimitedError, TransientError
from rlm_server.models import Models
from rlm_server.models.calls import Reply as Told
from rlm_server.models.deployments import Deployment
from rlm_server.models.faults import translate
from rlm_server.models.health import MOST, check
from rlm_server.models.retry_after import seconds_of
from rlm_server.models.server import Server
from rlm_server.models.statuses import refusal
from rlm_server.models.used import MOST_TOKENS, usage_of
from scripted_provider import Reply, ScriptedProvider

QUESTION = [{"role": "user", "content": "Why?"}]
DEEP = b"[" * 100_000
DATE = "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"
KEY = "sk-canary-" + "K" * 40


def deployment(**settings: object) -> Deployment:
    settings = {"model": "openai/x", "base_url": "http://127.0.0.1:9/v1"} | settings
    return Deployment(name="m", settings=ModelConfig(**settings), source="config")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(body=b'{"choices":' + DEEP), TransientError),
        (Reply(body=b'{"choices":[],"x":' + DEEP + b"]" * 100_000 + b"}"), TransientError),
        (Reply(body=b'{"choices":[],"error":' + DEEP + b"]" * 100_000 + b"}"), TransientError),
        (Reply(status=500, body=DEEP), TransientError),
        (Reply(status=500, body=b'{"error":' * 900 + b"1" + b"}" * 900), TransientError),
        (Reply(status=429, headers={"retry-after": DATE}), RateLimitedError),
    ],
)
async def test_it_is_a_fault_like_others(reply: Reply, kind: type[ModelError]) -> None:
    async with ScriptedProvider(lambda _: reply) as provider:
        model = ModelConfig(model="openai/x", base_url=provider.url, retries=0)
        models = Models(Config(discover=False, models={"m": model}), {})
        with pytest.raises(kind):
            await models.complete("m", QUESTION)
        await models.close()


def test_no_date_is_too_large() -> None:
    assert seconds_of(DATE, datetime.now(UTC)) is None
    assert seconds_of("1e999", datetime.now(UTC)) is None


@pytest.mark.parametrize("tokens", [-1_000_000, 10**30])
def test_tokens_are_a_number_that_can_be(tokens: int) -> None:
    paid = deployment(base_url="https://example.org/v1", input_price=1.0, output_price=1.0)
    told = Told(text="x", prompt_tokens=tokens, completion_tokens=tokens, written_tokens=tokens)
    usage = usage_of(paid, QUESTION, told)
    assert usage.prompt_tokens == usage.completion_tokens == (0 if tokens < 0 else MOST_TOKENS)
    assert usage.cost is not None
    assert usage.cost >= 0


def test_no_more_of_a_prompt_is_cached_than_there_is() -> None:
    told = Told(text="x", prompt_tokens=10, completion_tokens=1, cached_tokens=900_000)
    assert usage_of(deployment(), QUESTION, told).cached_tokens == 10


@pytest.mark.parametrize("cost", [-3.5, float("inf"), float("nan")])
def test_a_cost_that_can_not_be_is_not_believed(cost: float) -> None:
    hosted = Deployment(name="m", settings=ModelConfig(model="openrouter/unknown"), source="config")
    told = Told(text="x", prompt_tokens=10, completion_tokens=1, cost=cost)
    assert usage_of(hosted, QUESTION, told).cost is None


async def test_endless_calls_of_others_are_many() -> None:
    paths = {"/health": "", "/metrics": "vllm:num_requests_running 1e999\n"}
    async with ScriptedProvider([], other_paths=paths) as provider:
        it = Server(deployment(model="hosted_vllm/x", base_url=provider.url))
        await check(it, lambda: 0.0)
    assert it.others == MOST


@pytest.mark.parametrize("before", range(225, 275, 7))
def test_a_key_is_not_cut_in_two_and_shown(before: int) -> None:
    """The cut comes between 266 characters and the last 134."""
    said = "x" * before + KEY + "y" * 400
    refused = refusal(400, said.encode(), {}, deployment(), secrets=iter([KEY]))
    raised = translate(ValueError(said), deployment(), secrets=[KEY])
    moved = refusal(302, b"", {"location": said}, deployment(), secrets=[KEY])
    for error in (refused, raised, moved):
        assert "K" not in error.message
        assert "canary" not in error.message
