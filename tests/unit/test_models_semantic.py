"""The semantic cache: similar questions about the same text, and nothing else."""

from contextlib import asynccontextmanager

import pytest

from ngram_embedder import embed, embeddings
from rlm_server.config import CacheConfig, Config, ModelConfig
from rlm_server.errors import ConfigError, ModelError
from rlm_server.models import Models
from rlm_server.models.cache.semantic import SemanticCache
from rlm_server.models.cache.sqlite_store import cache_database
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Counting:
    """An embedder that counts."""

    name = "ngrams"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def embed(self, text: str) -> list[float]:
        self.asked.append(text)
        return [3.0 * number for number in embed(text)]


@pytest.fixture
def start(tmp_path):
    databases = []

    def make(embedder=None, clock=lambda: 1000.0, threshold=0.7) -> SemanticCache:
        databases.append(cache_database(tmp_path / "a.db"))
        embedder = embedder or Counting()
        return SemanticCache(databases[-1], embedder, threshold=threshold, ttl=100.0, clock=clock)

    yield make
    for database in databases:
        database.close()


async def keep(cache: SemanticCache, question: str, answer: str = "So.", scope: bytes = b"s"):
    await cache.keep(scope, question, answer, "run-1")
    cache._database.flush()


ASKED = "Where is the timeout of the connection set?"


async def test_a_similar_question_finds_the_answer(start) -> None:
    cache = start()
    await keep(cache, ASKED)
    await keep(cache, "Which colour has the sea?", "Blue.")
    found = await cache.find(b"s", "Please tell me where the timeout of the connection is set.")
    assert found is not None
    assert (found.question, found.answer, found.run_id) == (ASKED, "So.", "run-1")
    assert 0.7 <= found.similarity < 1
    assert found.created == 1000.0


async def test_the_same_words_need_no_embedding(start) -> None:
    await keep(start(), ASKED)
    embedder = Counting()
    found = await start(embedder).find(b"s", f"  {ASKED}\n")
    assert (found.similarity, embedder.asked) == (1.0, [])


@pytest.mark.parametrize(
    "question",
    ["Where is the timeout of the connection not set?", "Who wrote the letter?", "x" * 2001],
)
async def test_what_is_too_different_or_guarded_finds_nothing(start, question: str) -> None:
    cache = start()
    await keep(cache, ASKED)
    assert await cache.find(b"s", question) is None


async def test_a_guarded_best_one_does_not_hide_the_next(start) -> None:
    cache = start(threshold=0.5)
    await keep(cache, "Where is the timeout of the connection never set?", "wrong")
    await keep(cache, "Please: where is this timeout of that connection set?", "right")
    found = await cache.find(b"s", "Where is the timeout of the connection set?")
    assert found is not None
    assert found.answer == "right"


async def test_another_text_model_or_embedder_finds_nothing(start) -> None:
    await keep(start(), ASKED)
    assert await start().find(b"other", ASKED) is None
    other = Counting()
    other.name = "another"
    assert await start(other).find(b"s", ASKED) is None


async def test_an_old_answer_is_none_and_a_new_one_takes_its_place(start) -> None:
    await keep(start(), ASKED, "old")
    await keep(start(), ASKED, "new")
    cache = start()
    assert (await cache.find(b"s", ASKED)).answer == "new"
    assert len(cache._database.read("SELECT * FROM question")) == 1
    assert await start(clock=lambda: 1101.0).find(b"s", ASKED) is None


def test_without_numpy_or_a_model_it_is_refused(start, monkeypatch) -> None:
    with pytest.raises(ConfigError, match="needs a model"):
        Models(Config(discover=False, cache=CacheConfig(semantic=True)), {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs numpy"):
        start()


@asynccontextmanager
async def embedding(script, model="openai/small", path="/v1"):
    async with ScriptedProvider(script) as provider:
        url = provider.url.removesuffix("/v1") + path
        settings = ModelConfig(model=model, base_url=url, key_env="KEY", headers={"x-a": "b"})
        cache = CacheConfig(semantic=True, embedding_model="e")
        models = Models(
            Config(discover=False, models={"e": settings}, cache=cache), {"KEY": "sk-canary-123"}
        )
        try:
            yield provider, models
        finally:
            await models.close()


@pytest.mark.parametrize("model", ["openai/small", "hosted_vllm/small"])
async def test_an_openai_compatible_server_embeds(model: str) -> None:
    async with embedding(embeddings, model) as (provider, models):
        vector = await models.semantic._embedder.embed("alpha")
        assert models.root != "e"
    assert vector == pytest.approx(embed("alpha"))
    request = provider.requests[0]
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == "Bearer sk-canary-123"
    assert (request.body["model"], request.body["input"]) == ("small", ["alpha"])


async def test_ollama_embeds() -> None:
    body = b'{"model":"m","embeddings":[[1.0,2.0]],"prompt_eval_count":1}'
    script = [Reply(body=body)]
    async with embedding(script, "ollama_chat/all-minilm", "") as (provider, models):
        assert await models.semantic._embedder.embed("alpha") == [1.0, 2.0]
    assert provider.requests[0].path == "/api/embed"


@pytest.mark.parametrize(
    "reply",
    [Reply("bad sk-canary-123", status=401), Reply(status=500), Reply(body=b'{"data": []}')],
    ids=["401", "500", "nothing"],
)
async def test_a_failure_is_typed_and_tells_no_key(reply: Reply) -> None:
    async with embedding(lambda _: reply) as (_, models):
        with pytest.raises(ModelError) as caught:
            await models.semantic._embedder.embed("alpha")
    assert "canary" not in f"{caught.value!r} {caught.value}"
    assert caught.value.__context__ is None
