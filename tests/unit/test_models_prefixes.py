"""Prefix caches: what is marked for whom, and what cached tokens cost."""

import json

import pytest

from rlm_server.config import Config, ModelConfig
from rlm_server.models import Models
from rlm_server.models.deployments import Deployment
from rlm_server.models.prefixes import marked, wants_marks
from rlm_server.models.prices import price_of
from rlm_server.protocol import Usage
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "How?"},
]
MODEL = "anthropic/claude-sonnet-4-5"


class Ear:
    def delta(self, part: str, text: str) -> None:
        pass

    def restarted(self, reason: str) -> None:
        raise AssertionError(reason)

    def notice(self, text: str) -> None:
        raise AssertionError(text)


def marks(messages: list) -> list[bool]:
    return ["cache_control" in json.dumps(message) for message in messages]


def test_the_system_prompt_and_the_last_messages_are_marked() -> None:
    assert marks(marked(TALK)) == [True, False, True, True]
    assert marks(marked(TALK[:2])) == [True, True]
    assert marks(marked(TALK[1:2])) == [True]
    assert marks(marked([{"role": "user", "content": " "}])) == [False]
    assert marked([]) == []


def test_marking_changes_no_message() -> None:
    """The run goes on with its own messages, whose bytes must come again."""
    before = json.dumps(TALK)
    marked(TALK)
    assert json.dumps(TALK) == before


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (MODEL, True),
        ("openrouter/anthropic/claude-sonnet-4.5", True),
        ("openrouter/openai/gpt-5", False),
        ("openai/gpt-5", False),
        ("hosted_vllm/anthropic/imitation", False),
    ],
)
def test_marks_are_for_those_that_want_them(model: str, wanted: bool) -> None:
    deployment = Deployment(name="m", settings=ModelConfig(model=model), source="config")
    assert wants_marks(deployment) is wanted


EVENTS = [
    {
        "type": "message_start",
        "message": {
            "id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude",
            "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": 10, "cache_creation_input_tokens": 1000,
                      "cache_read_input_tokens": 2000, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Yes."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 5},
    },
    {"type": "message_stop"},
]  # fmt: skip
STREAM = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)


async def test_a_conversation_is_marked_on_the_wire_and_paid_as_it_was_cached(monkeypatch) -> None:
    monkeypatch.setattr("rlm_server.models.deployments.is_loopback", lambda url: False)
    reply = Reply(body=STREAM.encode(), content_type="text/event-stream")
    async with ScriptedProvider([reply]) as provider:
        settings = ModelConfig(
            model=MODEL, base_url=provider.url.removesuffix("/v1"), key_env="KEY", retries=0
        )
        models = Models(Config(discover=False, models={"m": settings}), {"KEY": "sk-secret"})
        completion = await models.complete("m", TALK, listener=Ear())
        await models.close()
    body = provider.requests[0].body
    assert marks(body["system"]) == [True]
    assert marks(body["messages"]) == [False, True, True]
    usage = completion.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (3010, 2000, 5)
    # $3 and $15 a million; a tenth for what was read, a quarter more for what was written.
    assert usage.cost == pytest.approx((10 * 3 + 2000 * 0.3 + 1000 * 3.75 + 5 * 15) / 1e6)


async def test_a_call_that_is_no_conversation_is_not_marked() -> None:
    async with ScriptedProvider(lambda _: "So.") as provider:
        settings = ModelConfig(
            model="openrouter/anthropic/claude-sonnet-4.5", base_url=provider.url, key_env="KEY"
        )
        models = Models(Config(discover=False, models={"m": settings}), {"KEY": "sk-secret"})
        await models.complete("m", TALK)
        await models.complete("m", TALK, listener=Ear())
        await models.close()
    assert [any(marks(r.body["messages"])) for r in provider.requests] == [False, True]


def test_cached_tokens_cost_less_and_written_ones_more() -> None:
    settings = ModelConfig(model=MODEL)
    price = price_of(Deployment(name="m", settings=settings, source="config"))
    fresh = price.of(Usage(prompt_tokens=1000))
    read = price.of(Usage(prompt_tokens=1000, cached_tokens=1000))
    written = price.of(Usage(prompt_tokens=1000), written=1000)
    assert read == pytest.approx(fresh / 10)
    assert written == pytest.approx(fresh * 1.25)
