"""A run that is asked again: the same answer, at once, for nothing, and seen to be so."""

import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine_harness import cell, final
from ngram_embedder import embeddings
from redis_process import needs_redis, redis_server
from rpc_client import initialize_params, server_environment, start_server
from scripted_provider import Reply, ScriptedProvider


def script(request) -> Reply:
    """A root that asks the same twice in a batch, and a sub that never says the same twice."""
    if request.path.endswith("/embeddings"):
        return embeddings(request)
    if request.role == "sub":
        script.said += 1
        return Reply(f"guess {script.said}")
    turn = sum(message["role"] == "assistant" for message in request.messages)
    code = "r = llm_query_batched([context[:5]] * 2)\nprint(r)"
    return Reply([cell(code), final("' and '.join(sorted(r))")][turn])


@pytest.fixture
async def provider():
    script.said = 0
    async with ScriptedProvider(script) as provider:
        yield provider


def configure(home: Path, provider: ScriptedProvider, more: str = "") -> None:
    (home / "config.toml").write_text(
        'root = "scripted"\ndiscover = false\n[models.scripted]\nmodel = "openai/scripted"\n'
        f'base-url = "{provider.url}"\ninput-price = 1.0\noutput-price = 2.0\n{more}'
    )


@asynccontextmanager
async def server(home: Path, *arguments: str):
    async with start_server(home, *arguments) as (client, _):
        await client.request("initialize", initialize_params())
        yield client


async def ask(client, **options):
    """Ask the one question; the end, the answer, and which replies and sub-calls were kept."""
    params = {
        "question": options.pop("question", "What is in it?"),
        "sources": [{"kind": "text", "text": "alpha\nbeta\n", "name": "greek.txt"}],
        "options": options,
    }
    run_id = (await client.request("rlm/ask", params))["runId"]
    end = await client.event(run_id, "runEnded")
    assert end["status"] == "done", end
    answer = "".join(event["text"] for event in client.of(run_id, "answer"))
    replies = [event["cached"] for event in client.of(run_id, "replyDone")]
    subcalls = [event["cached"] for event in client.of(run_id, "subcallDone")]
    return end, answer, replies, subcalls


def command(home: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "rlm_server", *arguments],
        env=server_environment(home), capture_output=True, text=True, check=True, timeout=50,
    ).stdout  # fmt: skip


async def test_asking_again_pays_nothing_and_gets_the_same(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as client:
        end, answer, replies, subcalls = await ask(client)
        assert (answer, replies, subcalls) == ("guess 1 and guess 2", [False] * 2, [False] * 2)
        assert end["usage"]["cost"] > 0
        asked = len(provider.requests)
    async with server(tmp_path) as client:
        end, answer, replies, subcalls = await ask(client)
        assert (answer, replies, subcalls) == ("guess 1 and guess 2", [True] * 2, [True] * 2)
        assert end["usage"]["cost"] == 0
        assert end["usage"]["cachedTokens"] == end["usage"]["promptTokens"] > 0
        assert len(provider.requests) == asked


async def test_one_can_ask_without_the_cache_and_anew(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as client:
        await ask(client)
        assert (await ask(client, noCache=True))[1] == "guess 3 and guess 4"
        assert (await ask(client))[1] == "guess 1 and guess 2"
        assert (await ask(client, fresh=True))[1] == "guess 5 and guess 6"
        assert (await ask(client))[1] == "guess 5 and guess 6"
    async with server(tmp_path, "--no-cache") as client:
        assert (await ask(client))[1] == "guess 7 and guess 8"


async def test_two_servers_share_what_is_kept(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as one, server(tmp_path) as other:
        await ask(one)
        assert (await ask(other))[2:] == ([True] * 2, [True] * 2)
        assert (await ask(other, fresh=True))[1] == "guess 3 and guess 4"
        assert (await ask(one))[1] == "guess 3 and guess 4"


async def test_a_broken_file_costs_a_warning_and_no_run(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "answers.db").write_bytes(b"not a database" * 100)
    async with server(tmp_path) as client:
        assert (await ask(client))[1] == "guess 1 and guess 2"
        assert (await ask(client))[1] == "guess 3 and guess 4"
        rows = (await client.request("rlm/doctor"))["rows"]
        row = next(row for row in rows if row["part"] == "kept answers")
        assert (row["status"], "cache clear" in row["cure"]) == ("warning", True)
    stderr = (tmp_path / "stderr").read_text()
    assert stderr.count("answers.db can't be used") == 1
    command(tmp_path, "cache", "clear")
    async with server(tmp_path) as client:
        await ask(client)
        assert (await ask(client))[2] == [True] * 2


async def test_what_is_kept_can_be_shown_exported_and_removed(tmp_path: Path, provider) -> None:
    configure(tmp_path, provider)
    async with server(tmp_path) as client:
        await ask(client)
    assert "Answers   4\n" in command(tmp_path, "cache")
    kept = [json.loads(line) for line in command(tmp_path, "cache", "export").splitlines()]
    assert {"guess 1", "guess 2"} < {row["entry"]["text"] for row in kept}
    assert all(row["entry"]["model"] == "openai/scripted" for row in kept)
    assert command(tmp_path, "cache", "clear") == "4 answers removed.\n"
    assert command(tmp_path, "cache", "export") == ""


@needs_redis
async def test_two_servers_share_a_redis_server(tmp_path: Path, provider) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with redis_server(tmp_path) as port:
        for home in ("one", "other"):
            url = f'[cache]\nurl = "redis://127.0.0.1:{port}/0"\n'
            configure(tmp_path / home, provider, url)
        async with server(tmp_path / "one") as one, server(tmp_path / "other") as other:
            await ask(one)
            assert (await ask(other))[1:] == ("guess 1 and guess 2", [True] * 2, [True] * 2)
        assert "Answers   4\n" in command(tmp_path / "one", "cache")
        assert command(tmp_path / "other", "cache", "clear") == "4 answers removed.\n"


async def test_a_similar_question_is_answered_by_the_kept_answer(tmp_path: Path, provider) -> None:
    configure(
        tmp_path,
        provider,
        f'[models.e]\nmodel = "openai/e"\nbase-url = "{provider.url}"\n'
        '[cache]\nsemantic = true\nthreshold = 0.7\nembedding-model = "e"\n',
    )
    first = "Which letters are in the list?"
    similar = "Tell me which letters are in the list."
    async with server(tmp_path) as client:
        assert (await ask(client, question=first))[1] == "guess 1 and guess 2"
        end, answer, replies, _ = await ask(client, question=similar)
        assert (answer, replies, end["usage"]["cost"]) == ("guess 1 and guess 2", [], 0)
        hit = client.of(end["runId"], "semanticHit")[0]
        assert (hit["originalQuestion"], hit["originalRunId"]) == (first, client.events[0]["runId"])
        assert 0.7 <= hit["similarity"] < 1
        assert "similar question" in end["reason"]
        evidence = client.of(end["runId"], "answer")[-1]["evidence"]
        assert isinstance(evidence, list)
        # Anew on demand, and never for another question, other texts or without a cache.
        assert (await ask(client, question=similar, fresh=True))[1] == "guess 3 and guess 4"
        assert (await ask(client, question=similar, noCache=True))[1] == "guess 5 and guess 6"
        negated = "Which letters are not in the list?"
        assert len((await ask(client, question=negated))[2]) == 2
        assert (await ask(client, question=similar))[1] == "guess 3 and guess 4"


async def test_without_its_model_the_semantic_cache_costs_a_notice(
    tmp_path: Path, provider
) -> None:
    configure(
        tmp_path,
        provider,
        '[models.e]\nmodel = "openai/e"\nbase-url = "http://127.0.0.1:9/v1"\n'
        '[cache]\nsemantic = true\nembedding-model = "e"\n',
    )
    async with server(tmp_path) as client:
        end, answer, *_ = await ask(client)
        assert answer == "guess 1 and guess 2"
        notices = [event["text"] for event in client.of(end["runId"], "notice")]
        assert any("not kept for similar questions" in text for text in notices)
