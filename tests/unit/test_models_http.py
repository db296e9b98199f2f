"""The direct transport where it is on its own: odd servers, redirects, and whom it carries."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest

from rlm_server import sse
from rlm_server.config import Config, ModelConfig
from rlm_server.errors import (
    ContextTooLongError,
    ModelError,
    RateLimitedError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from rlm_server.models import Models, http_transport
from rlm_server.models.deployments import Deployment
from rlm_server.models.http_transport import speaks
from rlm_server.models.statuses import refusal
from scripted_provider import Reply, ScriptedProvider

QUESTION = [{"role": "user", "content": "Why?"}]
SSE = "text/event-stream"


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def delta(self, part: str, text: str) -> None:
        self.heard.append((part, text))

    def restarted(self, reason: str) -> None:
        raise AssertionError(reason)

    def notice(self, text: str) -> None:
        raise AssertionError(text)


@asynccontextmanager
async def asking(*replies: Reply | str, **settings):
    async with ScriptedProvider(list(replies)) as provider:
        settings = {"model": "hosted_vllm/org/x", "base_url": provider.url, "retries": 0} | settings
        config = Config(discover=False, models={"m": ModelConfig(**settings)})
        models = Models(config, {"KEY": "sk-secret-secret"})
        try:
            yield models, provider
        finally:
            await models.close()


def stream(*events: object) -> Reply:
    lines = (e if isinstance(e, str) else f"data: {json.dumps(e)}" for e in events)
    return Reply(body="\n\n".join([*lines, ""]).encode(), content_type=SSE)


def delta(finish: str | None = None, **parts: object) -> dict:
    return {"choices": [{"index": 0, "delta": parts, "finish_reason": finish}]}


async def test_litellm_is_not_imported_for_it() -> None:
    async with asking("Yes.") as (models, _):
        await models.complete("m", QUESTION)
        assert not models.ready


async def test_the_model_is_asked_for_by_its_name_at_the_server_and_extras_go_along() -> None:
    params = {"extra_body": {"guided_regex": "a+"}, "top_k": 5}
    async with asking("Yes.", params=params) as (models, provider):
        await models.complete("m", QUESTION)
    body = provider.requests[0].body
    assert body == {"model": "org/x", "messages": QUESTION, "guided_regex": "a+", "top_k": 5}
    assert "authorization" not in provider.requests[0].headers


async def test_connections_are_used_again() -> None:
    async with asking(*["Yes."] * 5) as (models, provider):
        for _ in range(5):
            await models.complete("m", QUESTION)
        assert len(provider._connections) == 1


async def test_an_address_that_lets_nobody_connect_is_unreachable(monkeypatch) -> None:
    """Not slow: a longer time-out would not help, and nothing can have been paid."""
    monkeypatch.setattr(http_transport, "CONNECTING", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for each in waiting:  # beyond these, the kernel answers nobody
            each.setblocking(False)
            each.connect_ex(address)
        async with asking(base_url=f"http://127.0.0.1:{address[1]}/v1") as (models, _):
            with pytest.raises(UnreachableError, match="Nothing answers") as caught:
                await models.complete("m", QUESTION)
        for each in waiting:
            each.close()
    assert caught.value.late == 0


async def test_a_redirect_is_not_followed_since_the_key_would_go_along() -> None:
    moved = Reply(status=307, headers={"location": "https://elsewhere.example.org/"})
    async with asking(moved, key_env="KEY") as (models, provider):
        with pytest.raises(RefusedError, match=r"redirects to https://elsewhere"):
            await models.complete("m", QUESTION)
    assert len(provider.requests) == 1


async def test_an_error_in_the_place_of_a_reply_is_one() -> None:
    bodies = [
        {"error": {"message": "busy", "code": 429}},
        {"error": {"message": "maximum context length is 9", "code": 400}},
        {"error": "out of memory"},
    ]
    replies = [Reply(body=json.dumps(body).encode()) for body in bodies]
    async with asking(*replies) as (models, _):
        for kind, said in (
            (RateLimitedError, "busy"),
            (ContextTooLongError, "longer"),
            (TransientError, "out of memory"),
        ):
            with pytest.raises(kind, match=said):
                await models.complete("m", QUESTION)


async def test_an_error_in_the_middle_of_a_stream_is_one() -> None:
    reply = stream(delta(content="So"), {"error": {"message": "engine died", "code": 500}})
    async with asking(reply) as (models, _):
        with pytest.raises(TransientError, match="engine died"):
            await models.complete("m", QUESTION, listener=Ear())


async def test_comments_other_fields_and_both_names_of_reasoning_are_understood() -> None:
    ear = Ear()
    reply = stream(
        ": ping",
        "event: message\nid: 7",
        delta(role="assistant", content=None),
        delta(reasoning="Hm"),
        delta(reasoning_content="m."),
        delta(content="So."),
        delta(),
        "data:[DONE]",
    )
    async with asking(reply) as (models, _):
        completion = await models.complete("m", QUESTION, listener=ear)
    assert ear.heard == [("reasoning", "Hm"), ("reasoning", "m."), ("text", "So.")]
    assert completion.text == "So."


async def test_a_stream_that_ends_without_an_end_is_broken() -> None:
    async with asking(stream(delta(content="So"))) as (models, _):
        with pytest.raises(TransientError, match="broke"):
            await models.complete("m", QUESTION, listener=Ear())


async def test_a_server_that_does_not_stream_is_listened_to_all_the_same() -> None:
    whole = {"choices": [{"message": {"content": "So."}, "finish_reason": "stop"}]}
    ear = Ear()
    async with asking(Reply(body=json.dumps(whole).encode())) as (models, _):
        completion = await models.complete("m", QUESTION, listener=ear)
    assert ear.heard == [("text", completion.text)] == [("text", "So.")]


async def test_a_huge_reply_is_taken_and_an_endless_one_is_not(monkeypatch) -> None:
    async with asking("x" * 5_000_000, "y" * 100, Reply("z" * 5000, chunk=5000)) as (models, _):
        assert len((await models.complete("m", QUESTION)).text) == 5_000_000
        monkeypatch.setattr(http_transport, "LONGEST", 90)
        for listener in (None, Ear()):
            with pytest.raises(TransientError):
                await models.complete("m", QUESTION, listener=listener)


async def test_events_that_come_in_any_pieces_are_put_together() -> None:
    data = b"data: one\r\n\r\ndata:two\n\nid: 3\ndata:\n: no\ndata: three"

    async def pieces(size: int):
        for at in range(0, len(data), size):
            yield data[at : at + size]

    for size in range(1, len(data) + 1):
        found = [event async for event in sse.events(pieces(size), longest=99)]
        assert found == [b"one", b"two", b"three"]


async def test_a_long_line_is_put_together_in_place() -> None:
    """Copied anew for each of its pieces it would be 2 TB."""

    async def pieces():
        yield b"data:"
        for _ in range(1 << 20):
            yield b"abcd"

    assert [len(event) async for event in sse.events(pieces(), longest=1 << 26)] == [1 << 22]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "content_filter triggered", RefusedError),
        (400, "prompt is too long", ContextTooLongError),
        (409, "conflict", RefusedError),
        (504, "gateway", TransientError),
        (599, "odd", TransientError),
        (302, "moved", RefusedError),
        (204, "", TransientError),
    ],
)
def test_every_status_is_an_error_with_a_cure(status: int, body: str, kind: type) -> None:
    deployment = Deployment(name="m", settings=ModelConfig(model="openai/x"), source="config")
    error = refusal(status, body.encode(), {}, deployment, secrets=[])
    assert isinstance(error, kind)
    assert isinstance(error, ModelError)
    assert error.cure


@pytest.mark.parametrize(
    ("settings", "carried"),
    [
        ({"model": "hosted_vllm/x", "base_url": "http://a/v1"}, True),
        ({"model": "openai/x", "base_url": "https://gateway.example.org/v1"}, True),
        ({"model": "lm_studio/x", "base_url": "http://a/v1"}, True),
        ({"model": "litellm_proxy/x", "base_url": "http://a/v1"}, True),
        ({"model": "openai/x"}, False),
        ({"model": "openai/x", "base_url": "https://api.openai.com/v1"}, False),
        ({"model": "openai/gpt-5.4-mini", "base_url": "https://gateway.example.org/v1"}, False),
        ({"model": "anthropic/x", "base_url": "http://a"}, False),
        ({"model": "ollama_chat/x", "base_url": "http://a"}, False),
        ({"model": "hosted_vllm/x", "base_url": "http://a/v1", "transport": "litellm"}, False),
        ({"model": "deepseek/x", "base_url": "http://a/v1", "transport": "http"}, True),
        (
            {
                "model": "openai/x",
                "base_url": "http://a/v1",
                "params": {"custom_llm_provider": "azure"},
            },
            False,
        ),
    ],
)
def test_what_it_carries(settings: dict, carried: bool) -> None:
    deployment = Deployment(name="m", settings=ModelConfig(**settings), source="config")
    assert speaks(deployment) is carried


async def test_a_proxy_of_the_environment_is_not_for_this_machine(monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with asking("Yes.") as (models, _):
        assert (await asyncio.wait_for(models.complete("m", QUESTION), 60)).text == "Yes."
