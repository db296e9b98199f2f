"""The scripted provider itself: other tests believe what it says."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import scripted_provider
from scripted_provider import Reply, ScriptedProvider

PROGRAM = Path(scripted_provider.__file__)
ROOT = "Question: What is it?\n\nThe context holds 3 documents, 99 characters."


@asynccontextmanager
async def program(*arguments: str):
    """The provider as a program; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}/v1/chat/completions"
    finally:
        process.kill()
        await process.communicate()


async def post(url: str, *contents: str, **body: object) -> tuple[int, str]:
    """Post a conversation that begins with the user; the status and the body."""
    roles = ["user", "assistant"]
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]

    def send() -> tuple[int, str]:
        data = json.dumps({"model": "x", "messages": messages, **body}).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(send)


def text_of(answer: tuple[int, str]) -> str:
    return json.loads(answer[1])["choices"][0]["message"]["content"]


async def test_the_built_in_script_looks_asks_and_answers() -> None:
    async with program("--rlm") as url:
        look = text_of(await post(url, ROOT))
        ask = text_of(await post(url, ROOT, look, "Output of cell 1:\n"))
        answer = text_of(await post(url, ROOT, look, "Output", ask, "Output of cell 2:\n"))
        sub = text_of(await post(url, "What is this about?\n\nalpha"))
    assert "context.documents" in look
    assert "llm_query_batched" in ask
    assert 'answer["ready"] = True' in answer
    assert sub == "A text of 26 characters."


async def test_rules_are_tried_in_order_and_fall_through(tmp_path: Path) -> None:
    rules = [
        {"match": "flaky", "times": 1, "status": 503, "headers": {"retry-after": "0"}},
        {"match": "flaky", "reply": "now it works"},
        {"role": "sub", "match": "^bro.en$", "body": "<html>", "contentType": "text/html"},
    ]
    script = tmp_path / "script.json"
    script.write_text(json.dumps(rules))
    async with program("--script", str(script)) as url:
        assert (await post(url, "flaky"))[0] == 503
        assert text_of(await post(url, "flaky")) == "now it works"
        assert (await post(url, "broken")) == (200, "<html>")
        assert text_of(await post(url, "other")) == "A text of 5 characters."


async def test_a_stream_is_made_of_events_and_ends_with_usage() -> None:
    async with ScriptedProvider([Reply("one two", chunk=3)]) as provider:
        url = f"{provider.url}/chat/completions"
        options = {"stream": True, "stream_options": {"include_usage": True}}
        status, body = await post(url, "12345678", **options)
    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert status == 200
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "one two"
    assert chunks[-1]["usage"]["prompt_tokens"] == 2
    assert provider.requests[0].sent.is_set()


@pytest.mark.parametrize("rest", ["Question: x", "", "Question: The context holds"])
async def test_only_a_runs_conversation_is_a_roots(rest: str) -> None:
    async with ScriptedProvider(lambda request: request.role) as provider:
        url = f"{provider.url}/chat/completions"
        assert text_of(await post(url, ROOT)) == "root"
        assert text_of(await post(url, rest)) == "sub"
