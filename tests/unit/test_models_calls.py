"""Calls through both transports to a real server on loopback that says what each test needs."""

import asyncio
import logging
import socket
import sys
import time
from contextlib import asynccontextmanager

import pytest

from rlm_server.config import Config, ModelConfig
from rlm_server.errors import (
    ContextTooLongError,
    NoKeyError,
    RateLimitedError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from rlm_server.models import Fate, Models
from scripted_provider import Reply, ScriptedProvider

# litellm and pydantic warn of their own deprecations whenever they are used.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TRANSPORT = ""
"""The transport under test: each case is the same for both."""


@pytest.fixture(params=["litellm", "http"], autouse=True)
def transport(request, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "TRANSPORT", request.param)


KEY = "sk-canary-0123456789"
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.restarts: list[str] = []
        self.notices: list[str] = []
        self.first = asyncio.Event()

    def delta(self, part: str, text: str) -> None:
        if part == "text":
            self.text += text
        else:
            self.reasoning += text
        self.first.set()

    def restarted(self, reason: str) -> None:
        self.restarts.append(reason)
        self.text = ""

    def notice(self, text: str) -> None:
        self.notices.append(text)


class Bench:
    """A provider, models that call it, and the pauses between tries."""

    def __init__(self, provider: ScriptedProvider, config: Config) -> None:
        self.provider = provider
        self.pauses: list[float] = []
        self.passed = 0.0
        self.models = Models(
            config, {"TEST_KEY": KEY}, sleep=self.sleep, random=lambda: 1.0, clock=self.clock
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.passed += seconds
        await asyncio.sleep(0)

    def clock(self) -> float:
        return time.monotonic() + self.passed

    async def ask(self, **options):
        return await self.models.complete("m", QUESTION, **options)


@asynccontextmanager
async def bench(script, **settings):
    settings = {"model": "openai/scripted", "key_env": "TEST_KEY", "retries": 2} | settings
    settings.setdefault("transport", TRANSPORT)
    async with ScriptedProvider(script) as provider:
        settings.setdefault("base_url", provider.url)
        config = Config(discover=False, models={"m": ModelConfig(**settings)})
        it = Bench(provider, config)
        try:
            yield it
        finally:
            await it.models.close()


PROVIDERS = ["openai/scripted", "hosted_vllm/scripted", "deepseek/scripted"]


@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_streamed_reply_arrives_in_pieces_with_its_usage(model: str) -> None:
    reply = Reply("It is so, because it is so.", reasoning="Let me think.", chunk=5)
    ear = Ear()
    async with bench([reply], model=model) as it:
        completion = await it.ask(listener=ear)
    assert completion.text == ear.text == "It is so, because it is so."
    assert ear.reasoning == "Let me think."
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 10)
    assert it.provider.requests[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_call_without_a_listener_is_not_streamed(model: str) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    async with bench([Reply("So.", usage=usage)], model=model) as it:
        completion = await it.ask(max_tokens=77)
    assert completion.text == "So."
    assert completion.model == "m"
    assert completion.usage.cached_tokens == 8
    body = it.provider.requests[0].body
    assert not body.get("stream")
    assert body["max_tokens"] == 77
    assert body["messages"] == QUESTION


async def test_usage_is_estimated_where_the_provider_does_not_count() -> None:
    async with bench([Reply("x" * 40, usage={})] * 2) as it:
        for listener in (Ear(), None):
            usage = (await it.ask(listener=listener)).usage
            assert usage.prompt_tokens > 0
            assert usage.completion_tokens > 0


async def test_parameters_headers_and_the_key_are_sent() -> None:
    settings = {"params": {"temperature": 0.5, "seed": 7}, "headers": {"x-team": "blue-team"}}
    async with bench(["Yes."], **settings) as it:
        await it.ask()
    request = it.provider.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-team"] == "blue-team"
    assert (request.body["temperature"], request.body["seed"]) == (0.5, 7)


async def test_a_server_without_a_key_is_sent_none_of_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    async with bench(["Yes."], key_env=None) as it:
        await it.ask()
    assert "sk-of-somebody-else" not in str(it.provider.requests[0].headers)


async def test_a_key_that_the_provider_repeats_is_in_no_error_and_no_log(caplog) -> None:
    caplog.set_level(logging.DEBUG)
    reply = Reply(f"Incorrect key {KEY} given", status=401)
    async with bench([reply] * 2) as it:
        for listener in (None, Ear()):
            with pytest.raises(RefusedError) as caught:
                await it.ask(listener=listener)
            assert KEY not in f"{caught.value!r} {caught.value} {caught.getrepr()}"
            assert caught.value.__context__ is None
            assert "$TEST_KEY" in caught.value.cure
    assert KEY not in caplog.text
    assert KEY not in repr(vars(it.models))


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (Reply("no", status=401), RefusedError, "refused the key"),
        (Reply("no", status=402), RefusedError, "no credit"),
        (Reply("no", status=403), RefusedError, "does not allow"),
        (Reply("no such model", status=404), RefusedError, "no such model"),
        (Reply("bad temperature", status=400), RefusedError, "bad temperature"),
        (Reply("maximum context length is 9", status=400), ContextTooLongError, "longer than"),
        (Reply("too large", status=413), ContextTooLongError, "longer than"),
        (Reply("insufficient_quota", status=429), RefusedError, "no credit"),
    ],
    ids=["401", "402", "403", "404", "400", "window", "413", "quota"],
)
@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_refusal_is_not_tried_again(model, reply, kind, said) -> None:
    async with bench([reply] * 3, model=model) as it:
        with pytest.raises(kind, match=said) as caught:
            await it.ask()
    assert len(it.provider.requests) == 1
    assert caught.value.cure


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_parameter_that_the_server_does_not_know_is_a_refusal(model, streamed) -> None:
    async with bench(lambda _: Reply("unknown", status=422), model=model) as it:
        with pytest.raises(RefusedError, match="refused the request") as caught:
            await it.ask(listener=Ear() if streamed else None)
    assert "params" in caught.value.cure


@pytest.mark.parametrize(
    "reply",
    [
        Reply("oh", status=500),
        Reply("oh", status=502),
        Reply("oh", status=503),
        Reply("oh", status=529),
        Reply(body=b"<html>welcome</html>", content_type="text/html"),
        Reply(body=b"plain words", content_type="text/plain"),
        Reply(body=b'{"choices": ['),
        Reply(body=b""),
        Reply(""),
        Reply(choices=False),
        Reply("half of it", disconnect_after=1),
    ],
    ids=["500", "502", "503", "529", "html", "text", "json", "nothing", "empty", "none", "broken"],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_passing_fault_is_tried_again(model, streamed, reply) -> None:
    async with bench([reply, "Yes."], model=model) as it:
        completion = await it.ask(listener=Ear() if streamed else None)
    assert completion.text == "Yes."
    assert it.pauses == [0.5]


async def test_a_fault_that_stays_is_told_with_its_tries() -> None:
    ear = Ear()
    async with bench([Reply("overheated", status=500)] * 3) as it:
        with pytest.raises(TransientError, match=r"overheated.*3 tries"):
            await it.ask(listener=ear)
    assert it.pauses == [0.5, 1.0]
    assert [notice.split(". ")[-1] for notice in ear.notices] == [
        "Trying again in 0.5 s.",
        "Trying again in 1.0 s.",
    ]


async def test_what_a_broken_stream_said_is_taken_back() -> None:
    ear = Ear()
    async with bench([Reply("one two three", chunk=4, disconnect_after=3), "one two"]) as it:
        completion = await it.ask(listener=ear)
    assert completion.text == ear.text == "one two"
    assert len(ear.restarts) == 1
    assert "broke" in ear.restarts[0]
    assert ear.notices == []


async def test_the_wait_that_the_provider_asks_for_is_kept() -> None:
    limited = Reply("slow down", status=429, headers={"retry-after": "7"})
    ear = Ear()
    async with bench([limited, "Yes."]) as it:
        await it.ask(listener=ear)
    assert it.pauses == [8.0]
    assert "slow down" in ear.notices[0]


async def test_without_retry_after_the_pause_grows() -> None:
    async with bench([Reply("slow", status=429)] * 3) as it:
        with pytest.raises(RateLimitedError, match="asks for fewer calls"):
            await it.ask()
    assert it.pauses == [0.5, 1.0]


async def test_a_wait_of_more_than_a_minute_is_told_at_once() -> None:
    limited = Reply("slow down", status=429, headers={"retry-after": "3600"})
    async with bench([limited]) as it:
        with pytest.raises(RateLimitedError, match="asks to wait 3600 s") as caught:
            await it.ask()
    assert it.pauses == []
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_silent_server_is_a_passing_fault(streamed: bool) -> None:
    async with bench([Reply(silent=True)], timeout=0.2, retries=0) as it:
        with pytest.raises(TransientError, match=r"did not answer within 0\.2 s") as caught:
            await it.ask(listener=Ear() if streamed else None)
        await asyncio.wait_for(it.provider.requests[0].closed.wait(), 60)
    assert "timeout in [models.m]" in caught.value.cure


@pytest.mark.parametrize("streamed", [True, False])
async def test_tries_that_were_given_up_are_counted_for_what_they_may_cost(streamed: bool) -> None:
    async with bench([Reply(silent=True)] * 3, timeout=0.2, retries=2) as it:
        fate = Fate()
        with pytest.raises(TransientError, match="3 tries"):
            await it.ask(listener=Ear() if streamed else None, fate=fate)
    assert fate.late == 3


async def test_a_reply_tells_of_the_tries_that_were_given_up_before_it(monkeypatch) -> None:
    async with bench([Reply("So.")], timeout=60) as it:
        answered = it.models._dispatch._replies._send
        late = TransientError("late")
        late.late = 1
        faults = [late, TransientError("It broke."), late]

        async def send(*asked):
            if faults:
                raise faults.pop(0)
            return await answered(*asked)

        monkeypatch.setattr(it.models._dispatch._replies, "_send", send)
        monkeypatch.setattr(it.models._catalogue.find("m").settings, "retries", 5)
        fate = Fate()
        completion = await it.ask(fate=fate)
    assert (completion.text, fate.late) == ("So.", 2)


async def test_a_stream_that_stalls_in_the_middle_is_given_up() -> None:
    stalled = Reply("one two", chunk=3, wait=asyncio.Event(), hold_after=2)
    async with bench([stalled], timeout=0.3, retries=0) as it:
        with pytest.raises(TransientError, match="did not answer within"):
            await it.ask(listener=Ear())
        await asyncio.wait_for(it.provider.requests[0].closed.wait(), 60)


@pytest.mark.parametrize("model", [*PROVIDERS, "ollama_chat/scripted", "openrouter/scripted"])
async def test_a_refused_connection_is_tried_once_more(model: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        async with bench([], model=model, base_url=url) as it:
            with pytest.raises(UnreachableError, match="Nothing answers for m at") as caught:
                await it.ask()
    assert it.pauses == [0.5]
    assert "base-url in [models.m]" in caught.value.cure


@pytest.mark.parametrize("model", PROVIDERS)
@pytest.mark.parametrize("streamed", [True, False])
async def test_cancelling_closes_the_connection(model: str, streamed: bool) -> None:
    reply = Reply("one two", chunk=3, wait=asyncio.Event(), hold_after=2 if streamed else None)
    ear = Ear()
    async with bench([reply], model=model) as it:
        task = asyncio.create_task(it.ask(listener=ear if streamed else None))
        await it.provider.arrived(1)
        if streamed:
            await ear.first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(it.provider.requests[0].closed.wait(), 60)


async def test_a_listener_that_fails_closes_the_connection() -> None:
    class Deaf(Ear):
        def delta(self, part: str, text: str) -> None:
            raise ZeroDivisionError

    reply = Reply("one two", chunk=3, wait=asyncio.Event(), hold_after=3)
    async with bench([reply], retries=0) as it:
        with pytest.raises(ZeroDivisionError):
            await it.ask(listener=Deaf())
        await asyncio.wait_for(it.provider.requests[0].closed.wait(), 60)


async def test_no_more_calls_are_in_flight_than_there_are_slots() -> None:
    gate = asyncio.Event()
    async with bench(lambda _: Reply("Yes.", wait=gate), slots=3) as it:
        tasks = [asyncio.create_task(it.ask()) for _ in range(10)]
        await it.provider.arrived(3)
        tasks[5].cancel()  # one that waits for a slot gives its place up
        gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert it.provider.most_in_flight == 3
    assert [isinstance(each, asyncio.CancelledError) for each in done].count(True) == 1
    assert len(it.provider.requests) == 9


async def test_a_slot_is_free_again_after_a_failure_and_a_cancel() -> None:
    silent = Reply(silent=True)
    async with bench([Reply(status=400), silent, "Yes."], slots=1) as it:
        with pytest.raises(RefusedError):
            await it.ask()
        task = asyncio.create_task(it.ask())
        await it.provider.arrived(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await asyncio.wait_for(it.ask(), 60)).text == "Yes."


async def test_ollama_is_asked_nothing_but_the_question() -> None:
    answer = b'{"model":"x","message":{"role":"assistant","content":"Yes."},"done":true}'
    async with ScriptedProvider([Reply(body=answer)]) as provider:
        url = provider.url.removesuffix("/v1")
        settings = ModelConfig(model="ollama_chat/unheard-of", base_url=url)
        models = Models(Config(discover=False, models={"m": settings}), {})
        completion = await models.complete("m", QUESTION)
        await models.close()
    assert completion.text == "Yes."
    assert completion.usage.cost == 0.0
    assert [request.path for request in provider.requests] == ["/api/chat"]
    assert provider.requests[0].body["options"]["num_ctx"] == 16_384


async def test_costs_come_from_the_configuration_then_the_provider_then_the_map() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    told = usage | {"cost": 0.123}
    priced = {"input_price": 2.0, "output_price": 10.0}
    async with bench([Reply("a", usage=told)], **priced) as it:
        assert (await it.ask()).usage.cost == pytest.approx(0.003)
    async with bench([Reply("a", usage=usage)]) as it:
        assert (await it.ask()).usage.cost == 0.0


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_a_hosted_provider_says_that_a_call_cost_is_believed(
    streamed: bool, monkeypatch
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "cost": 0.0123}
    monkeypatch.setattr("rlm_server.models.deployments.is_loopback", lambda url: False)
    async with bench([Reply("a", usage=usage), "b"], model="openrouter/nobody/knows-it") as it:
        assert (await it.ask(listener=Ear() if streamed else None)).usage.cost == 0.0123
        assert (await it.ask()).usage.cost is None


async def test_a_call_without_its_key_never_leaves() -> None:
    async with bench([], key_env="NOT_THERE") as it:
        with pytest.raises(NoKeyError, match="needs a key") as caught:
            await it.ask()
    assert "$NOT_THERE" in caught.value.cure
    assert it.provider.requests == []


async def test_text_is_fit_for_every_json_parser() -> None:
    async with bench([Reply("a\ud83db\0", chunk=99)] * 2) as it:
        ear = Ear()
        text = (await it.ask(listener=ear)).text
    assert text == ear.text == "a\N{REPLACEMENT CHARACTER}b\N{SYMBOL FOR NULL}"
