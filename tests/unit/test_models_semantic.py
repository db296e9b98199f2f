"""The semantic cache: similar questions about the same text, and nothing else."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ngram_embedder import embed, embeddings
from rlm_server.config import CacheConfig, Config, ModelConfig
from rlm_server.errors import (
    ConfigError,
    KeyRefusedError,
    ModelError,
    RateLimitedError,
    RefusedError,
    TransientError,
)
from rlm_server.models import Account, Models
from rlm_server.models.cache.semantic import SemanticCache
from rlm_server.models.cache.sqlite_store import cache_database
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def private(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))


async def vector_of(text: str) -> list[float]:
    return [3.0 * number for number in embed(text)]


async def no_vector(text: str) -> list[float]:
    raise AssertionError(text)


@pytest.fixture
def start(tmp_path):
    databases = []

    def make(embedder="ngrams", clock=lambda: 1000.0, threshold=0.7) -> SemanticCache:
        databases.append(cache_database(tmp_path / "a.db"))
        return SemanticCache(
            databases[-1], embedder=embedder, threshold=threshold, ttl=100.0, clock=clock
        )

    yield make
    for database in databases:
        database.close()


async def keep(cache: SemanticCache, question: str, answer: str = "So.", scope: bytes = b"s"):
    await cache.keep(scope, question, answer, "run-1", vector_of)
    cache._database.flush()


async def find(cache: SemanticCache, question: str, scope: bytes = b"s"):
    return await cache.find(scope, question, vector_of)


ASKED = "Where is the timeout of the connection set?"


async def test_a_similar_question_finds_the_answer(start) -> None:
    cache = start()
    await keep(cache, ASKED)
    await keep(cache, "Which colour has the sea?", "Blue.")
    found = await find(cache, "Please tell me where the timeout of the connection is set.")
    assert found is not None
    assert (found.question, found.answer, found.run_id) == (ASKED, "So.", "run-1")
    assert 0.7 <= found.similarity < 1
    assert found.created == 1000.0


async def test_the_same_words_need_no_embedding(start) -> None:
    await keep(start(), ASKED)
    found = await start().find(b"s", f"  {ASKED}\n", no_vector)
    assert found.similarity == 1.0


@pytest.mark.parametrize(
    "question",
    ["Where is the timeout of the connection not set?", "Who wrote the letter?", "x" * 2001],
)
async def test_what_is_too_different_or_guarded_finds_nothing(start, question: str) -> None:
    cache = start()
    await keep(cache, ASKED)
    assert await find(cache, question) is None


async def test_a_guarded_best_one_does_not_hide_the_next(start) -> None:
    cache = start(threshold=0.5)
    await keep(cache, "Where is the timeout of the connection never set?", "wrong")
    await keep(cache, "Please: where is this timeout of that connection set?", "right")
    found = await find(cache, "Where is the timeout of the connection set?")
    assert found is not None
    assert found.answer == "right"


async def test_another_text_model_or_embedder_finds_nothing(start) -> None:
    await keep(start(), ASKED)
    assert await find(start(), ASKED, b"other") is None
    assert await find(start("another"), ASKED) is None


async def test_what_is_kept_during_the_embedding_shifts_no_answer(start) -> None:
    cache = start()
    await keep(cache, ASKED, "In a table.")
    await keep(cache, "Which colour has the sea?", "Blue.")

    async def slowly(text: str) -> list[float]:
        await keep(cache, ASKED, "In a table.")
        return await vector_of(text)

    found = await cache.find(b"s", "Tell me which colour has the sea?", slowly)
    assert found is not None
    assert (found.question, found.answer) == ("Which colour has the sea?", "Blue.")


async def test_an_old_answer_is_none_and_a_new_one_takes_its_place(start) -> None:
    await keep(start(), ASKED, "old")
    await keep(start(), ASKED, "new")
    cache = start()
    assert (await find(cache, ASKED)).answer == "new"
    assert len(cache._database.read("SELECT * FROM question")) == 1
    assert await find(start(clock=lambda: 1101.0), ASKED) is None


def test_without_numpy_or_a_model_it_is_refused(start, monkeypatch) -> None:
    with pytest.raises(ConfigError, match="needs a model"):
        Models(Config(discover=False, cache=CacheConfig(semantic=True)), {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs numpy"):
        start()


@asynccontextmanager
async def embedding(script, model="openai/small", path="/v1", **settings):
    async with ScriptedProvider(script) as provider:
        url = provider.url.removesuffix("/v1") + path
        settings = {"key_env": "KEY", "headers": {"x-a": "b"}, "retries": 0} | settings
        table = ModelConfig(model=model, base_url=url, **settings)
        cache = CacheConfig(semantic=True, embedding_model="e")
        config = Config(discover=False, models={"e": table}, cache=cache)
        models = Models(config, {"KEY": "sk-canary-123"}, sleep=lambda _: asyncio.sleep(0))
        try:
            yield provider, models
        finally:
            await models.close()


OLLAMA = b'{"model":"m","embeddings":[[1.0,2.0]],"prompt_eval_count":1}'
BOTH = pytest.mark.parametrize("transport", ["auto", "litellm"])


@BOTH
@pytest.mark.parametrize("model", ["openai/small", "hosted_vllm/small"])
async def test_an_openai_compatible_server_embeds(model: str, transport: str) -> None:
    async with embedding(embeddings, model, transport=transport) as (provider, models):
        vector = await models.embed("alpha")
        assert models.root != "e"
        assert models.ready == (transport == "litellm")
    assert vector.numbers == pytest.approx(embed("alpha"))
    assert (vector.usage.prompt_tokens, vector.usage.cost) == (1, 0.0)
    request = provider.requests[0]
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == "Bearer sk-canary-123"
    assert request.headers["x-a"] == "b"
    assert (request.body["model"], request.body["input"]) == ("small", ["alpha"])
    assert request.body["encoding_format"] == "float"


@BOTH
async def test_ollama_embeds(transport: str) -> None:
    script = [Reply(body=OLLAMA)]
    asked = embedding(script, "ollama_chat/all-minilm", "", transport=transport)
    async with asked as (provider, models):
        assert (await models.embed("alpha")).numbers == [1.0, 2.0]
    assert provider.requests[0].path == "/api/embed"
    assert provider.requests[0].body["input"] == ["alpha"]


@BOTH
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("bad sk-canary-123", status=401), KeyRefusedError),
        (Reply("no such model", status=404), RefusedError),
        (Reply(status=500), TransientError),
        (Reply(status=429), RateLimitedError),
        (Reply(body=b'{"data": []}'), TransientError),
        (Reply(body=b'{"data": [{"embedding": []}]}'), TransientError),
        (Reply(body=b"<html>"), TransientError),
        (Reply(silent=True), TransientError),
    ],
    ids=["401", "404", "500", "429", "nothing", "empty", "page", "slow"],
)
async def test_a_failure_is_typed_and_tells_no_key(
    reply: Reply, kind: type[ModelError], transport: str
) -> None:
    slow = {"timeout": 0.2} if reply.silent else {}
    async with embedding(lambda _: reply, transport=transport, **slow) as (_, models):
        with pytest.raises(ModelError) as caught:
            await models.embed("alpha")
    assert type(caught.value) is kind
    assert "canary" not in f"{caught.value!r} {caught.value}"
    assert caught.value.__context__ is None


async def test_an_embedding_is_a_call_of_the_pool() -> None:
    """It waits for a slot, is tried again, shows in the lists, and is paid for."""
    gate = asyncio.Event()

    def script(request):
        if len(provider.requests) == 1:
            return Reply(status=500)
        answer = embeddings(request)
        answer.wait = gate
        return answer

    settings = {"slots": 1, "retries": 1, "input_price": 1_000_000.0}
    async with embedding(script, **settings) as (provider, models):
        account = Account("run-1", "thesis")
        calls = [
            asyncio.create_task(models.embed(text, account=account)) for text in ("one", "other")
        ]
        await provider.arrived(2)
        (info,) = [info for info in models.list() if info.name == "e"]
        assert (info.in_flight, info.waiting, info.roles) == (1, 1, ["embedding"])
        gate.set()
        first, _ = await asyncio.gather(*calls)
        assert first.usage.cost == 1.0  # a dollar a token, and nothing for what it didn't write
        (info,) = [info for info in models.list() if info.name == "e"]
        assert (info.in_flight, info.waiting, info.health) == (0, 0, "ok")
        (row,) = (await models.costs.report(1)).rows
        assert (row.model, row.project, row.calls, row.cost) == ("e", "thesis", 2, 2.0)


async def test_a_model_that_is_only_named_is_listed_with_its_role() -> None:
    cache = CacheConfig(semantic=True, embedding_model="ollama/all-minilm")
    models = Models(Config(discover=False, cache=cache), {})
    (info,) = [info for info in models.list() if info.roles == ["embedding"]]
    assert (info.name, info.model) == ("ollama/all-minilm", "ollama_chat/all-minilm")
    assert models.root == models.sub == "offline/extractive"
    await models.close()


async def test_vectors_of_several_models_are_not_mixed() -> None:
    entries = [{"model": "openai/small"}, {"model": "openai/large"}]
    table = ModelConfig(model="openai/small", deployments=entries)
    cache = CacheConfig(semantic=True, embedding_model="e")
    with pytest.raises(ConfigError, match="several models: large, small"):
        Models(Config(discover=False, models={"e": table}, cache=cache), {})


async def test_the_embedded_model_makes_no_vectors() -> None:
    cache = CacheConfig(semantic=True, embedding_model="offline/extractive")
    models = Models(Config(discover=False, cache=cache), {})
    with pytest.raises(ModelError, match="makes no vectors"):
        await models.embed("alpha")
    await models.close()
