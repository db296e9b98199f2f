"""Answers shared through a real Redis server: one asks for all, and nobody needs the server."""

import asyncio
from contextlib import asynccontextmanager, contextmanager

import pytest

from redis_process import needs_redis, redis_server
from rlm_server.config import CacheConfig, Config, ModelConfig
from rlm_server.doors.kept import cache_command
from rlm_server.errors import ConfigError
from rlm_server.models import Account, Models
from rlm_server.models.cache import redis_store
from rlm_server.models.cache.entry import Entry
from rlm_server.models.cache.open import open_database, open_store
from rlm_server.models.cache.redis_store import RedisStore
from rlm_server.models.cache.semantic import SemanticCache
from rlm_server.models.database import DatabaseError
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    needs_redis,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

QUESTION = [{"role": "user", "content": "Why?"}]
ENTRY = Entry(text="So.", model="m", prompt_tokens=1, completion_tokens=2, created=1.0)


@pytest.fixture
def port(tmp_path):
    with redis_server(tmp_path) as port:
        yield port


@asynccontextmanager
async def stores(port: int, count: int = 2):
    url = f"redis://127.0.0.1:{port}/0"
    opened = [open_store(CacheConfig(url=url), open_database()) for _ in range(count)]
    try:
        yield opened
    finally:
        for store in opened:
            await store.close()


async def test_what_one_keeps_the_other_finds(port: int) -> None:
    async with stores(port) as (one, other):
        await one.put(b"k", ENTRY)
        assert await other.get(b"k") == ENTRY
        assert await other.get(b"x") is None
        assert (await other.stats()).entries == 1
        assert [kept.entry async for kept in other.export()] == [ENTRY]
        assert 0 < await one._client.ttl(redis_store.PREFIX + b"k".hex().encode()) <= 30 * 86_400
        assert await other.clear() == 1
        assert await one.get(b"k") is None


async def test_one_asks_for_all_and_the_others_take_what_it_got(port: int) -> None:
    async with stores(port, 3) as (one, *others):

        async def wait(store) -> Entry | None:
            async with store.turn(b"k") as entry:
                return entry

        async with one.turn(b"k") as nothing:
            assert nothing is None
            waiting = [asyncio.create_task(wait(store)) for store in others]
            await asyncio.sleep(0)
            await one.put(b"k", ENTRY)
            assert await asyncio.gather(*waiting) == [ENTRY] * 2


async def test_what_is_damaged_is_neither_found_nor_exported(port: int) -> None:
    async with stores(port, 1) as (store,):
        await store.put(b"k", ENTRY)
        await store._client.set(redis_store.PREFIX + b"x".hex().encode(), b"{")
        assert await store.get(b"x") is None
        assert [kept.entry async for kept in store.export()] == [ENTRY]


async def test_clearing_forgets_similar_questions_too(port: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RLM_CACHE", str(tmp_path))

    async def embed(text: str) -> list[float]:
        return [1.0]

    @contextmanager
    def questions():
        database = open_database()
        yield SemanticCache(database, embedder="e", threshold=0.9, ttl=60)
        database.close()

    with questions() as kept:
        await kept.keep(b"s", "Why?", "So.", "1", embed)
    with questions() as kept:
        assert await kept.find(b"s", "Why?", embed)
    await cache_command(Config(cache=CacheConfig(url=f"redis://127.0.0.1:{port}/0")), "clear")
    with questions() as kept:
        assert await kept.find(b"s", "Why?", embed) is None


async def test_who_gives_up_lets_the_next_ask(port: int) -> None:
    async with stores(port) as (one, other):
        with pytest.raises(ZeroDivisionError):
            async with one.turn(b"k"):
                raise ZeroDivisionError
        async with asyncio.timeout(60), other.turn(b"k") as entry:
            assert entry is None


async def test_who_has_died_is_waited_for_only_shortly(port: int, monkeypatch) -> None:
    monkeypatch.setattr(redis_store, "RENEW_SECONDS", 0.01)
    async with stores(port) as (one, other):
        lease = redis_store.LEASE + b"k".hex().encode()
        await one._client.set(lease, b"of the dead", px=1)
        async with asyncio.timeout(60), other.turn(b"k") as entry:
            assert entry is None
            await one._client.persist(lease)
            while await one._client.pttl(lease) < 0:  # until it is renewed
                assert await one._client.get(lease)
        assert await one._client.get(lease) is None


async def test_two_processes_make_one_call(port: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "state"))
    gate = asyncio.Event()
    async with ScriptedProvider([Reply("one", wait=gate)]) as provider:
        settings = ModelConfig(model="openai/scripted", base_url=provider.url)
        cache = CacheConfig(url=f"redis://127.0.0.1:{port}/0")
        config = Config(discover=False, models={"m": settings}, cache=cache)
        both = [Models(config, {}) for _ in range(2)]
        calls = [
            asyncio.create_task(models.complete("m", QUESTION, account=Account("1")))
            for models in both
        ]
        await provider.arrived(1)
        gate.set()
        answers = await asyncio.gather(*calls)
        for models in both:
            await models.close()
    assert len(provider.requests) == 1
    assert sorted(answer.cached for answer in answers) == [False, True]


async def test_a_server_that_is_gone_is_a_warning_and_tried_again(tmp_path, caplog) -> None:
    with redis_server(tmp_path) as port:
        pass
    async with stores(port, 1) as (store,):
        await store.put(b"k", ENTRY)
        assert await store.get(b"k") is None
        async with store.turn(b"k") as entry:
            assert entry is None
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "url in [cache]" in caplog.text
        with pytest.raises(DatabaseError, match="can't be used"):
            await store.stats()
        with redis_server(tmp_path, port):
            assert store.broken
            store._again = 0.0  # as if half a minute had passed
            await store.put(b"k", ENTRY)
            assert await store.get(b"k") == ENTRY
            assert not store.broken


async def test_a_password_is_not_told(tmp_path, caplog) -> None:
    with redis_server(tmp_path) as port:
        pass
    url = f"redis://:sk-canary-0123456789@127.0.0.1:{port}/0"
    store = open_store(CacheConfig(url=url), open_database())
    await store.get(b"k")
    assert "can't be used" in caplog.text
    assert "canary" not in caplog.text
    await store.close()


async def test_a_password_in_the_query_is_not_told() -> None:
    store = RedisStore("redis://127.0.0.1:9/0?password=sk-canary-0123456789", ttl=1)
    assert "canary" not in store._place
    await store.close()


def test_an_address_of_no_known_kind_is_told() -> None:
    with pytest.raises(ConfigError, match="memcached"):
        open_store(CacheConfig(url="memcached://127.0.0.1"), open_database())
    with pytest.raises(ConfigError, match="no address"):
        open_store(CacheConfig(url="redis://127.0.0.1:nonsense/0"), open_database())


def test_a_missing_package_is_told(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match="redis package"):
        open_store(CacheConfig(url="redis://127.0.0.1"), open_database())
