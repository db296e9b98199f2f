"""Each provider by its own protocol over a real socket: whole, streamed, counted, and refusing."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from rlm_server.config import Config, ModelConfig
from rlm_server.errors import KeyRefusedError, ModelError, RateLimitedError, TransientError
from rlm_server.models import Models
from scripted_provider import Reply, Request, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

KEY = "sk-canary-0123456789"
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def sse(*events: object, named: bool = False) -> Reply:
    lines = [
        (f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    return Reply(body="".join(lines).encode(), content_type="text/event-stream")


def document(value: object) -> Reply:
    return Reply(body=json.dumps(value).encode())


def compatible(_: Request) -> Reply:
    """As OpenAI's API has it; the scripted provider speaks that by itself."""
    return Reply("Yes.", usage={"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12})


def with_cost(_: Request) -> Reply:
    return Reply("Yes.", usage={"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.0123})


def anthropic(request: Request) -> Reply:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    usage = {"input_tokens": 9, "output_tokens": 3}
    if not request.body.get("stream"):
        content = [{"type": "text", "text": "Yes."}]
        return document(message | {"content": content, "stop_reason": "end_turn", "usage": usage})
    start = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    pieces = (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in ("Ye", "s.")
    )
    return sse(
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *pieces,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
        named=True,
    )


def gemini(request: Request) -> Reply:
    def chunk(text: str, **more: object) -> dict[str, object]:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}
        counts = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
        return {"candidates": [candidate], "usageMetadata": counts}

    if "streamGenerateContent" in request.path:
        return sse(chunk("Ye"), chunk("s.", finishReason="STOP"))
    return document(chunk("Yes.", finishReason="STOP"))


def ollama(request: Request) -> Reply:
    def line(text: str, **more: object) -> dict[str, object]:
        return {"model": "x", "message": {"role": "assistant", "content": text}, **more}

    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3}
    if not request.body.get("stream"):
        return document(line("Yes.", **end))
    lines = (line("Ye", done=False), line("s.", done=False), line("", **end))
    body = "".join(json.dumps(each) + "\n" for each in lines).encode()
    return Reply(body=body, content_type="application/x-ndjson")


@dataclass
class Provider:
    model: str
    script: object
    path: str
    """How the paths of its requests begin, after the base URL."""
    header: str = "authorization"
    """The one with the key."""
    base: str = "/v1"
    settings: dict = field(default_factory=dict)


PROVIDERS = {
    "OpenAI": Provider("openai/gpt-5.4-mini", compatible, "/v1/chat/completions"),
    "OpenAI-compatible": Provider("openai/qwen3", compatible, "/v1/chat/completions"),
    "Anthropic": Provider(
        "anthropic/claude-sonnet-4-5", anthropic, "/v1/messages", "x-api-key", base=""
    ),
    "Gemini": Provider(
        "gemini/gemini-2.5-flash",
        gemini,
        "/v1beta/models/gemini-2.5-flash:",
        "x-goog-api-key",
        base="/v1beta",
    ),
    "OpenRouter": Provider("openrouter/openai/gpt-5.4-mini", with_cost, "/v1/chat/completions"),
    "DeepSeek": Provider("deepseek/deepseek-chat", compatible, "/v1/chat/completions"),
    "Ollama": Provider("ollama_chat/qwen3", ollama, "/api/chat", base=""),
    "vLLM": Provider("hosted_vllm/qwen3", compatible, "/v1/chat/completions"),
    "Portkey": Provider(
        "openai/gpt-5.4-mini",
        compatible,
        "/v1/chat/completions",
        settings={"headers": {"x-portkey-config": "pc-1"}},
    ),
}
EACH = pytest.mark.parametrize("name", PROVIDERS)


class Ear:
    def __init__(self) -> None:
        self.pieces: list[str] = []

    def delta(self, part: str, text: str) -> None:
        self.pieces.append(text)

    def restarted(self, reason: str) -> None:
        raise AssertionError(reason)

    def notice(self, text: str) -> None:
        raise AssertionError(text)


def models_of(it: Provider, provider: ScriptedProvider) -> Models:
    url = provider.url.removesuffix("/v1") + it.base
    settings = ModelConfig(model=it.model, base_url=url, key_env="KEY", retries=0, **it.settings)
    return Models(Config(discover=False, models={"m": settings}), {"KEY": KEY})


@EACH
async def test_each_provider_answers_whole_and_streamed(name: str) -> None:
    it = PROVIDERS[name]
    async with ScriptedProvider(it.script) as provider:
        models = models_of(it, provider)
        try:
            whole = await models.complete("m", TALK, max_tokens=99)
            streamed = await models.complete("m", TALK, listener=(ear := Ear()))
        finally:
            await models.close()
    assert (whole.text, streamed.text, "".join(ear.pieces)) == ("Yes.", "Yes.", "Yes.")
    for completion in (whole, streamed):
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (9, 3)
    for request in provider.requests:
        assert request.path.startswith(it.path)
        assert KEY in request.headers[it.header]
        assert "99" in json.dumps(provider.requests[0].body)
        for header, value in it.settings.get("headers", {}).items():
            assert request.headers[header] == value
        told = json.dumps(request.body)
        assert "Be brief." in told
        assert "Why?" in told


@pytest.mark.parametrize("name", ["OpenAI", "OpenAI-compatible", "vLLM"])
@pytest.mark.parametrize("form", ["http://me:{key}@{place}/v1", "http://{place}/v1?api-key={key}"])
@pytest.mark.parametrize("status", [0, 307, 401, 500])
async def test_a_key_in_the_address_is_told_to_nobody(name: str, form: str, status: int) -> None:
    """``status`` 0: nothing answers."""
    moved = {"location": f"http://elsewhere.example.org/?token={KEY}"}
    reply = Reply(status=status, headers=moved, body=f"no, {KEY}".encode())
    async with ScriptedProvider(lambda _: reply) as provider:
        place = provider.url.removeprefix("http://").removesuffix("/v1")
        url = form.format(key=KEY, place=place if status else "127.0.0.1:9")
        settings = ModelConfig(model=PROVIDERS[name].model, base_url=url, retries=0)
        models = Models(Config(discover=False, models={"m": settings}), {})
        models.add_keys({"m": "another-key"})
        with pytest.raises(ModelError) as caught:
            await models.complete("m", TALK)
        shown = f"{caught.value!r} {caught.value} {models.list()} {settings}"
        await models.close()
    assert "127.0.0.1" in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("OpenAI", "max_completion_tokens"),
        ("Portkey", "max_completion_tokens"),
        ("OpenAI-compatible", "max_tokens"),
        ("vLLM", "max_tokens"),
    ],
)
async def test_a_bound_has_the_name_that_the_model_knows(name: str, bound: str) -> None:
    """OpenAI's own models refuse ``max_tokens``, whoever passes the call on to them."""
    async with ScriptedProvider(compatible) as provider:
        models = models_of(PROVIDERS[name], provider)
        await models.complete("m", TALK, max_tokens=99)
        await models.close()
    assert {key: value for key, value in provider.requests[0].body.items() if value == 99} == {
        bound: 99
    }


@EACH
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_provider_is_let_go_at_once_when_a_call_is_cancelled(
    name: str, streamed: bool
) -> None:
    async with ScriptedProvider(lambda _: Reply(silent=True)) as provider:
        models = models_of(PROVIDERS[name], provider)
        call = asyncio.create_task(models.complete("m", TALK, listener=Ear() if streamed else None))
        await asyncio.wait_for(provider.arrived(1), 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(provider.requests[0].closed.wait(), 60)
        assert models.list()[0].in_flight == 0
        await models.close()


@EACH
@pytest.mark.parametrize(
    ("status", "kind"), [(401, KeyRefusedError), (429, RateLimitedError), (500, TransientError)]
)
async def test_each_providers_refusal_is_typed_and_tells_no_key(
    name: str, status: int, kind: type[ModelError]
) -> None:
    it = PROVIDERS[name]
    error = {"error": {"message": f"no, {KEY}", "type": "e", "code": status, "status": "E"}}
    body = json.dumps(error).encode()
    async with ScriptedProvider(lambda _: Reply(status=status, body=body)) as provider:
        models = models_of(it, provider)
        try:
            for listener in (None, Ear()):
                with pytest.raises(ModelError) as caught:
                    await models.complete("m", TALK, listener=listener)
                assert type(caught.value) is kind
                assert KEY not in f"{caught.value!r} {caught.value}"
                assert caught.value.cure
                models._dispatch.groups.clear()  # what failed rests, and the next is to be asked
        finally:
            await models.close()
