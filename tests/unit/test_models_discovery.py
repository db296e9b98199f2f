"""Finding Ollama and vLLM on this machine, and not being held up by what is no model server."""

import asyncio
import json
import socket
import threading

import msgspec
import pytest

from rlm_server.config import OFFLINE_MODEL, Config, ModelConfig
from rlm_server.models import Models, discovery
from rlm_server.models.discovery import discover
from scripted_provider import ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TAGS = {
    "models": [
        {"name": "all-minilm:latest", "details": {"family": "bert"}},
        {"name": "qwen3:8b", "size": 1, "details": {"family": "qwen3"}},
        {"name": "nomic-embed-text:latest"},
    ]
}
"""Newest first, as Ollama lists them; two of these only compare texts."""
SERVED = {"object": "list", "data": [{"id": "meta/llama", "max_model_len": 32_768}]}


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def address(provider: ScriptedProvider) -> str:
    return provider.url.removesuffix("/v1")


async def test_the_models_of_both_servers_are_found() -> None:
    paths = {"/api/tags": TAGS, "/v1/models": SERVED}
    async with ScriptedProvider([], other_paths=paths) as server:
        models = Models(Config(), {}, ollama_url=address(server), vllm_url=address(server))
        await models.warm()
        await models.close()
    assert [info.name for info in models.list()] == [
        "ollama_chat/qwen3:8b",
        "hosted_vllm/meta/llama",
        OFFLINE_MODEL,
    ]
    assert [info.source for info in models.list()] == ["local", "local", "embedded"]
    assert models.root == "ollama_chat/qwen3:8b"
    assert models.window("hosted_vllm/meta/llama") == 32_768
    assert models.free(models.root)
    models.check(models.root)


async def test_a_key_and_a_configured_model_come_before_a_local_server() -> None:
    async with ScriptedProvider([], other_paths={"/api/tags": TAGS}) as server:
        urls = {"ollama_url": address(server), "vllm_url": closed_port()}
        keyed = Models(Config(), {"OPENAI_API_KEY": "sk-x"}, **urls)
        mine = ModelConfig(model="hosted_vllm/mine", base_url="http://127.0.0.1:1/v1")
        configured = Models(Config(models={"mine": mine}), {}, **urls)
        for models in (keyed, configured):
            await models.warm()
            await models.close()
            assert "ollama_chat/qwen3:8b" in [info.name for info in models.list()]
    assert keyed.root.startswith("openai/")
    assert configured.root == "mine"


async def test_configured_servers_tell_the_windows_of_their_models() -> None:
    async with ScriptedProvider([], other_paths={"/v1/models": SERVED}) as server:
        here = {"model": "hosted_vllm/meta/llama", "base_url": server.url}
        settings = {
            "told": ModelConfig(**here),
            "stated": ModelConfig(**here, window=1000),
            "another": ModelConfig(model="hosted_vllm/other", base_url=server.url),
            "gone": ModelConfig(model="hosted_vllm/x", base_url=closed_port()),
            "least": ModelConfig(**here, deployments=[{}, {"window": 500}]),
        }
        models = Models(Config(discover=False, models=settings), {})
        assert models.window("told") is None
        await models.look_around()
        await models.close()
    windows = {"told": 32_768, "stated": 1000, "another": None, "gone": None, "least": 500}
    assert {name: models.window(name) for name in windows} == windows
    assert {row.name: row.window for row in models.list() if row.name in windows} == windows


async def test_a_question_to_a_found_model_reaches_its_server() -> None:
    async with ScriptedProvider(["Yes."], other_paths={"/v1/models": SERVED}) as server:
        models = Models(Config(), {}, ollama_url=closed_port(), vllm_url=address(server))
        await models.warm()
        completion = await models.complete(models.root, [{"role": "user", "content": "Well?"}])
        await models.close()
    assert completion.text == "Yes."
    assert completion.usage.cost == 0.0
    assert server.requests[0].body["model"] == "meta/llama"


async def test_with_discovery_off_nobody_is_asked() -> None:
    async with ScriptedProvider([], other_paths={"/api/tags": TAGS}) as server:
        models = Models(
            Config(discover=False), {}, ollama_url=address(server), vllm_url=address(server)
        )
        await models.warm()
        await models.close()
    assert models.root == OFFLINE_MODEL


async def test_where_nothing_listens_nothing_is_found() -> None:
    assert await discover(closed_port(), closed_port()) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"HTTP/1.0 404 Not Found\r\n\r\n" + json.dumps(TAGS).encode(),
        b"HTTP/1.0 200 OK\r\n\r\n<html>",
        b'HTTP/1.0 200 OK\r\n\r\n{"models": 7}',
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\nx: " + b"y" * 200_000,
    ],
)
async def test_what_is_no_model_server_is_passed_over(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert await discover(url, url) == []
    server.close()
    await server.wait_closed()


async def test_a_server_that_never_answers_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(discovery, "PATIENCE", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert await discover(url, url) == []


async def test_warming_twice_asks_once_and_never_raises(monkeypatch) -> None:
    def broken() -> None:
        raise ImportError("half installed")

    monkeypatch.setattr("rlm_server.models.litellm_transport.load", broken)
    models = Models(Config(discover=False, root="openai/x"), {"OPENAI_API_KEY": "sk-x"})
    await asyncio.gather(models.warm(), models.warm())
    assert not models.ready
    with pytest.raises(Exception, match=r"litellm can't be imported: ImportError: half installed"):
        await models.complete(models.root, [{"role": "user", "content": "Well?"}])
    await models.close()


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        ({"model": "openai/x", "base-url": "http://127.0.0.1:9/v1"}, False),
        ({"model": "hosted_vllm/x", "base-url": "http://127.0.0.1:9/v1"}, False),
        ({"model": "anthropic/claude-x", "base-url": "http://127.0.0.1:9"}, True),
        ({"model": "openai/x", "key-env": "KEY"}, True),
    ],
)
async def test_litellm_is_imported_ahead_only_where_a_model_needs_it(
    monkeypatch, model: dict[str, str], needed: bool
) -> None:
    asked = []
    monkeypatch.setattr("rlm_server.models.litellm_transport.load", lambda: asked.append(1))
    entries = msgspec.convert({"m": model}, dict[str, ModelConfig])
    models = Models(Config(discover=False, models=entries), {"KEY": "sk-x"})
    await models.prepare()
    assert models.prepared
    assert bool(asked) == needed
    assert models._carriers._http._aiohttp is not None or needed
    await models.close()


async def test_closing_does_not_wait_for_the_import(monkeypatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("rlm_server.models.litellm_transport.load", released.wait)
    models = Models(Config(discover=False), {})
    warming = asyncio.create_task(models.warm())
    await asyncio.sleep(0)
    await asyncio.wait_for(models.close(), 60)
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await warming
