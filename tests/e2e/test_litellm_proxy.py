"""A LiteLLM proxy, a process of its own, as the one address of many servers.

Its environment is too big for every test run (750 MB, 40 s). ``make proxy`` makes it and runs this.
"""

import asyncio
import json
import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlm_server.config import Config, ModelConfig
from rlm_server.errors import RefusedError
from rlm_server.models import Models
from rlm_server.models.short_http import get
from scripted_provider import ScriptedProvider

PROXY = os.environ.get("RLM_TEST_LITELLM_PROXY", "")
QUESTION = [{"role": "user", "content": "Why?"}]
KEY = "sk-of-the-team-0123"

pytestmark = [
    pytest.mark.skipif(not PROXY, reason="RLM_TEST_LITELLM_PROXY names no litellm[proxy] program"),
    pytest.mark.timeout(180),
]


class Ear:
    def __init__(self) -> None:
        self.text = ""

    def delta(self, part: str, text: str) -> None:
        self.text += text

    def restarted(self, reason: str) -> None:
        raise AssertionError(reason)

    def notice(self, text: str) -> None:
        raise AssertionError(text)


@contextmanager
def proxy(tmp_path: Path, servers: list[ScriptedProvider]):
    """A proxy that serves the model ``team`` from these; gives its base URL."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    entries = [
        {
            "model_name": "team",
            "litellm_params": {"model": "openai/x", "api_base": s.url, "api_key": "none"},
        }
        for s in servers
    ]
    file = tmp_path / "proxy.yaml"  # JSON is YAML
    file.write_text(json.dumps({"model_list": entries, "general_settings": {"master_key": KEY}}))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    command = [PROXY, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait()


async def alive(url: str, process: subprocess.Popen) -> None:
    while process.poll() is None:
        try:
            if (await get(f"{url}/health/liveliness"))[0] == 200:
                return
        except (OSError, EOFError, ValueError):
            await asyncio.sleep(0.2)
    raise AssertionError("the proxy has ended")


async def test_a_proxy_answers_for_many_servers(tmp_path: Path) -> None:
    async with (
        ScriptedProvider(lambda _: "One.") as first,
        ScriptedProvider(lambda _: "Two.") as second,
    ):
        with proxy(tmp_path, [first, second]) as (url, process):
            await alive(url, process)
            settings = ModelConfig(
                model="litellm_proxy/team", base_url=f"{url}/v1", key_env="TEAM", slots=32
            )
            config = Config(discover=False, models={"m": settings})
            models = Models(config, {"TEAM": KEY})
            done = await asyncio.gather(*(models.complete("m", QUESTION) for _ in range(32)))
            ear = Ear()
            streamed = await models.complete("m", QUESTION, listener=ear)
            await models.close()
            stranger = Models(config, {"TEAM": "sk-of-a-stranger"})
            with pytest.raises(RefusedError) as caught:
                await stranger.complete("m", QUESTION)
            await stranger.close()
    assert {completion.text for completion in done} == {"One.", "Two."}
    assert all(completion.usage.completion_tokens > 0 for completion in done)
    assert streamed.text == ear.text
    assert streamed.usage.prompt_tokens > 0
    assert "sk-of-a-stranger" not in str(caught.value)
