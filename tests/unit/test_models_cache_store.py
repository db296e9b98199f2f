"""The file of kept answers: bounded, shared, private, and no harm when it can't be used."""

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.config import ModelConfig
from rlm_server.models.cache.entry import Entry, deterministic, request_key, sample_key
from rlm_server.models.cache.sqlite_store import SqliteStore, cache_database
from rlm_server.models.database import DatabaseError
from rlm_server.models.deployments import Deployment

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def store_at(path: Path, clock=None, **settings) -> SqliteStore:
    settings = {"max_bytes": MIB, "ttl": 100.0} | settings
    return SqliteStore(cache_database(path), clock=clock or Clock(), **settings)


def entry(text: str = "Yes.", created: float = 1_000_000.0) -> Entry:
    return Entry(text=text, model="m", prompt_tokens=1, completion_tokens=2, created=created)


async def test_what_was_put_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    store = store_at(tmp_path / "a.db")
    await store.put(b"k", entry())
    assert await store.get(b"k") == entry()
    await store.close()
    again = store_at(tmp_path / "a.db")
    assert await again.get(b"k") == entry()
    assert await again.get(b"other") is None
    await again.close()
    assert (await store_at(tmp_path / "a.db").stats()).hits == 2


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    store = store_at(tmp_path / "new" / "a.db")
    await store.put(b"k", entry())
    store._database.flush()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert modes == {0o600}
    await store.close()


async def test_an_answer_that_is_too_old_is_none(tmp_path: Path) -> None:
    clock = Clock()
    store = store_at(tmp_path / "a.db", clock)
    await store.put(b"k", entry())
    clock.now += 100
    assert await store.get(b"k")
    clock.now += 1
    assert await store.get(b"k") is None
    await store.close()


async def test_the_size_is_bounded_and_the_least_used_go_first(tmp_path: Path) -> None:
    clock = Clock()
    store = store_at(tmp_path / "a.db", clock, ttl=1e9)
    for number in range(40):
        clock.now += 1
        await store.put(b"%d" % number, entry("x" * 50_000))
        assert await store.get(b"0")  # used again and again
        store._database.flush()
        assert (await store.stats()).bytes <= MIB
    kept = [number for number in range(40) if await store.get(b"%d" % number)]
    assert kept == [0, *range(kept[1], 40)]
    assert len(kept) > 10
    await store.close()


async def test_an_answer_larger_than_a_quarter_is_not_kept(tmp_path: Path) -> None:
    store = store_at(tmp_path / "a.db")
    await store.put(b"k", entry("x" * (MIB // 4)))
    assert await store.get(b"k") is None
    await store.close()


async def test_several_servers_share_the_file(tmp_path: Path) -> None:
    stores = [store_at(tmp_path / "a.db") for _ in range(4)]

    def fill(number: int) -> None:
        database = stores[number]._database
        for index in range(50):
            value = (
                b'{"text":"t","model":"m","prompt_tokens":1,"completion_tokens":1,"created":1e6}'
            )
            row = (b"%d %d" % (number, index), value, 100, 1e6, 1e6)
            database.write(
                [("INSERT INTO entry (key, value, size, created, used) VALUES (?,?,?,?,?)", row)]
            )
        database.flush()

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(await store.stats()).entries for store in stores] == [200] * 4
    assert all([await stores[0].get(b"%d 49" % number) for number in range(4)])
    for store in stores:
        await store.close()


def spoil(path: Path, how: str) -> None:
    if how == "garbage":
        path.write_bytes(b"this is no database " * 500)
    elif how == "a directory":
        path.mkdir()
    elif how == "another format":
        database = cache_database(path)
        database._version = 99
        database.read("SELECT 1")
        database.close()


@pytest.mark.parametrize("how", ["garbage", "a directory", "another format"])
async def test_a_file_that_cannot_be_used_is_a_warning(tmp_path: Path, how: str, caplog) -> None:
    path = tmp_path / "a.db"
    spoil(path, how)
    store = store_at(path)
    for _ in range(3):
        assert await store.get(b"k") is None
        await store.put(b"k", entry())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "rlm-server cache clear" in caplog.text
    with pytest.raises(DatabaseError, match="can't be used"):
        await store.stats()
    await store.close()


async def test_a_file_that_breaks_while_it_is_used_is_a_warning(tmp_path: Path, caplog) -> None:
    store = store_at(tmp_path / "a.db")
    for number in range(20):
        await store.put(b"%d" % number, entry("x" * 10_000))
    store._database.flush()
    store._database.write([("INSERT INTO nowhere VALUES (1)", ())])
    store._database.flush()
    assert "nowhere" in caplog.text
    assert await store.get(b"1") is None
    await store.put(b"k", entry())
    assert store._unwritten == {}
    await store.close()


async def test_a_file_that_may_not_be_written_is_a_warning(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    store = store_at(tmp_path / "a.db")
    await store.put(b"k", entry())
    store._database.flush()
    opened = store._database._open

    def read_only(wait: float):
        connection = opened(wait)
        connection.execute("PRAGMA query_only = 1")  # file modes don't bind root
        return connection

    monkeypatch.setattr(store._database, "_open", read_only)
    await store.put(b"other", entry())
    store._database.flush()
    assert "readonly" in caplog.text
    assert await store.get(b"other") is None
    await store.close()


@pytest.mark.parametrize("how", ["garbage", "another format", "nothing"])
async def test_clearing_gives_a_file_that_can_be_used(tmp_path: Path, how: str, caplog) -> None:
    path = tmp_path / "a.db"
    spoil(path, how)
    store = store_at(path)
    assert await store.clear() == 0
    await store.close()
    fresh = store_at(path)
    await fresh.put(b"k", entry())
    await fresh.close()
    assert [kept.entry async for kept in fresh.export()] == [entry()]
    assert await fresh.clear() == 1
    assert (await fresh.stats()).entries == 0
    await fresh.close()


async def test_what_is_damaged_is_neither_found_nor_exported(tmp_path: Path) -> None:
    store = store_at(tmp_path / "a.db")
    for key_ in (b"k", b"x"):
        await store.put(key_, entry())
    store._database.write([("UPDATE entry SET value = ? WHERE key = ?", (b"{", b"x"))])
    store._database.flush()
    assert await store.get(b"x") is None
    assert [kept.entry async for kept in store.export()] == [entry()]
    await store.close()


# ------------------------------------------------------------------------------------------ keys

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def deployment(**settings) -> Deployment:
    settings = {"model": "openai/x"} | settings
    return Deployment(name="m", settings=ModelConfig(**settings), source="config")


def key(messages=ASKED, max_tokens=None, **settings) -> bytes:
    return request_key(deployment(**settings), messages, max_tokens)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "openai/y"},
        {"messages": [*ASKED, {"role": "assistant", "content": "So."}]},
        {"messages": ASKED[::-1]},
        {"messages": [ASKED[0], {"role": "system", "content": "Why?"}]},
        {"messages": [ASKED[0], {"role": "user", "content": "Why"}]},
        {"messages": [ASKED[0], {"role": "user", "content": "Why?\ud83d"}]},
        {"max_tokens": 1},
        {"params": {"temperature": 0.5}},
        {"params": {"extra_body": {"top_k": 1}}},
        {"params": {"extra_body": {"top_k": 50}}},
        {"params": {"top_p": float("inf")}},
        {"headers": {"x-portkey-config": "pc-1"}},
        {"model": "ollama_chat/x", "window": 4096},
        {"model": "ollama_chat/x"},
    ],
)
def test_what_can_change_the_answer_changes_the_key(settings) -> None:
    others = [{}, {"params": {"extra_body": {"top_k": 2}}}, {"max_tokens": 2}]
    assert all(key(**settings) != key(**other) for other in others)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://127.0.0.1:1/v1"},
        {"key_env": "X", "auth_host": "y"},
        {"headers": {"Authorization": "Bearer x", "X-Api-Key": "y", "X-Title": "z"}},
        {"input_price": 1.0, "slots": 2, "timeout": 3.0, "retries": 4},
        {"window": 9},
    ],
)
def test_what_cannot_change_the_answer_does_not(settings) -> None:
    assert key(**settings) == key()


def test_the_order_in_which_parameters_are_written_does_not_matter() -> None:
    one = {"temperature": 0, "extra_body": {"a": 1, "b": 2}}
    other = {"extra_body": {"b": 2, "a": 1}, "temperature": 0}
    assert key(params=one) == key(params=other)
    assert key(messages=[dict(reversed(m.items())) for m in ASKED]) == key()


texts = st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text(max_size=6)), max_size=3)


@given(texts, texts, st.integers(0, 3), st.integers(0, 3))
def test_different_requests_never_share_a_key(one, other, first, second) -> None:
    keys = {
        sample_key(key(messages=[{"role": r, "content": c} for r, c in said]), sample)
        for said, sample in ((one, first), (other, second))
    }
    assert len(keys) == (1 if (one, first) == (other, second) else 2)


@pytest.mark.parametrize(
    ("params", "told"),
    [({}, False), ({"temperature": 0}, True), ({"temperature": 0.7}, False), ({"seed": 1}, True)],
)
def test_a_seed_or_temperature_0_makes_a_request_deterministic(params, told) -> None:
    assert deterministic(deployment(params=params)) is told
