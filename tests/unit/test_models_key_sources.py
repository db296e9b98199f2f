"""Keys from commands and keyrings: got once, in memory only, and told by nothing."""

import asyncio
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from processes import gone
from rlm_server.config import Config, ModelConfig
from rlm_server.errors import ConfigError, KeyRefusedError, NoKeyError
from rlm_server.models import Models, key_sources
from scripted_provider import Reply, ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

KEY = "sk-canary-0123456789"
QUESTION = [{"role": "user", "content": "Why?"}]


def printing(tmp_path: Path, code: str) -> list[str]:
    """A command that counts how often it is run."""
    count = f"open({str(tmp_path / 'count')!r}, 'a').write('x'); "
    return [sys.executable, "-c", count + code]


async def call(times: int = 1, **settings):
    """The requests that a provider gets, and the models that made them."""
    async with ScriptedProvider(lambda _: "Yes.") as provider:
        settings = {"model": "openai/scripted", "base_url": provider.url, "retries": 0} | settings
        models = Models(Config(discover=False, models={"m": ModelConfig(**settings)}), {})
        try:
            models.check("m")
            await asyncio.gather(*[models.complete("m", QUESTION) for _ in range(times)])
        finally:
            await models.close()
    return provider.requests, models


async def test_a_command_is_run_once_for_all_calls(tmp_path: Path, caplog) -> None:
    caplog.set_level("DEBUG")
    command = printing(tmp_path, f"print('{KEY}'); print('login: somebody')")
    requests, models = await call(5, key_command=command)
    assert {r.headers["authorization"] for r in requests} == {f"Bearer {KEY}"}
    assert (tmp_path / "count").read_text() == "x"
    assert [row.key for row in models.list() if row.name == "m"] == ["present"]
    shown = repr(vars(models)) + repr(vars(models._catalogue._sources)) + caplog.text
    assert KEY not in shown.replace(repr(command), "")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (f"import sys; print('{KEY}'); print('{KEY}', file=sys.stderr); sys.exit(3)", "status 3"),
        ("print()", "gave nothing"),
    ],
)
async def test_a_command_that_fails_is_told_without_what_it_printed(
    tmp_path: Path, code: str, told: str, capfd
) -> None:
    with pytest.raises(NoKeyError, match=told) as caught:
        await call(key_command=printing(tmp_path, code))
    assert KEY not in f"{caught.value} {capfd.readouterr()}"
    assert "[models.m]" in caught.value.cure
    assert caught.value.__context__ is None


async def test_where_one_deployments_key_cannot_be_had_another_is_asked(tmp_path: Path) -> None:
    """And its command, which may ask a person, is not run again within the minute."""
    command, now = printing(tmp_path, "raise SystemExit(1)"), [0.0]
    async with ScriptedProvider(lambda _: "Yes.") as provider:
        settings = ModelConfig(
            model="openai/x",
            base_url=provider.url,
            deployments=[{"key-command": command}, {"key-env": "KEY"}],
        )
        config = Config(discover=False, models={"m": settings})
        models = Models(config, {"KEY": KEY}, clock=lambda: now[0])
        for now[0] in (0.0, 59.0):
            assert (await models.complete("m", QUESTION)).text == "Yes."
        first, second = models.list()[0].deployments
        await models.close()
    assert (first.health, first.calls, second.calls) == ("down", 0, 2)
    assert (tmp_path / "count").read_text() == "x"


async def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(NoKeyError, match="'no-such-program' of key-command can't be started"):
        await call(key_command=["no-such-program"])


async def test_a_command_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(key_sources, "WAIT_SECONDS", 1.0)
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! $$ > {pids}; wait"
    with pytest.raises(NoKeyError, match="did not answer within 1 s"):
        await call(key_command=["sh", "-c", script])
    await gone([int(pid) for pid in pids.read_text().split()])


async def test_the_next_call_tries_a_failed_command_again(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = ["sh", "-c", f"cat {ready}"]
    settings = ModelConfig(model="openai/x", key_command=command)
    models = Models(Config(discover=False, models={"m": settings}), {})
    deployment = models._catalogue.find("m")
    with pytest.raises(NoKeyError):
        await models._catalogue.fetch_key(deployment)
    ready.write_text(f"  {KEY}  ")
    assert (await models._catalogue.fetch_key(deployment)).reveal() == KEY
    await models.close()


class Vault(types.ModuleType):
    """Stands in for the keyring package, which needs a desktop."""

    def get_password(self, service: str, user: str) -> str | None:
        if service == "locked":
            raise RuntimeError(f"cannot open, {KEY}")
        return KEY if (service, user) == ("work/openai", "me") else None


async def test_a_keyring_is_asked_by_service_and_user(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", Vault("keyring"))
    requests, _ = await call(key_keyring="work/openai/me")
    assert requests[0].headers["authorization"] == f"Bearer {KEY}"
    with pytest.raises(NoKeyError, match="no such entry"):
        await call(key_keyring="work/nobody")
    with pytest.raises(NoKeyError, match="failed: RuntimeError") as caught:
        await call(key_keyring="locked/me")
    assert KEY not in str(caught.value)


async def test_a_keyring_without_its_package_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(NoKeyError, match=r"rlm-server\[keyring\] is not installed"):
        await call(key_keyring="a/b")


def test_a_place_in_a_keyring_has_a_service_and_a_user() -> None:
    settings = ModelConfig(model="openai/x", key_keyring="openai")
    with pytest.raises(ConfigError, match="key-keyring"):
        Models(Config(discover=False, models={"m": settings}), {})


def test_a_repr_of_the_configuration_shows_no_secret() -> None:
    secrets = {"Authorization": f"Bearer {KEY}", "x-api-key": KEY}
    settings = ModelConfig(
        model="openai/x",
        headers=secrets,
        params={"api_key": KEY},
        base_url=f"http://me:{KEY}@127.0.0.1/v1",
        deployments=[{"headers": secrets}],
    )
    config = Config(models={"m": settings})
    config.cache.url = f"redis://:{KEY}@127.0.0.1/0"
    assert KEY not in repr(config)
    assert "openai/x" in repr(config)


def test_memory_is_kept_out_of_core_dumps(tmp_path: Path) -> None:
    """By every command, not by a server alone."""
    code = (
        "import ctypes, resource, sys; from rlm_server.cli import main;"
        "sys.argv[1:] = ['costs']; sys.stdout = sys.stderr; main(); sys.stdout = sys.__stdout__;"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    root = Path(__file__).parent.parent.parent
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"RLM_STATE": str(tmp_path), "RLM_CONFIG": str(tmp_path / "none.toml")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert told[0] == "0"
    assert sys.platform != "linux" or told[1] == "0"


async def test_the_real_keyring_package_is_asked(tmp_path: Path, monkeypatch) -> None:
    """Where it is installed, with a vault that is a file: ``pip install keyring keyrings.alt``."""
    keyring = pytest.importorskip("keyring")
    file = pytest.importorskip("keyrings.alt.file")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    vault = file.PlaintextKeyring()
    vault.file_path = str(tmp_path / "vault")
    before = keyring.get_keyring()
    keyring.set_keyring(vault)
    try:
        keyring.set_password("work/openai", "me", KEY)
        requests, _ = await call(key_keyring="work/openai/me")
        assert requests[0].headers["authorization"] == f"Bearer {KEY}"
        with pytest.raises(NoKeyError, match="no such entry"):
            await call(key_keyring="work/openai/nobody")
    finally:
        keyring.set_keyring(before)


async def test_a_key_that_has_expired_is_fetched_again_once_for_all(tmp_path: Path) -> None:
    keys = tmp_path / "key"
    keys.write_text("sk-old-0123456789")
    count = tmp_path / "count"
    command = ["sh", "-c", f"printf x >> {count}; cat {keys}"]
    valid = {"sk-old-0123456789"}

    def script(request) -> Reply:
        good = request.headers["authorization"].removeprefix("Bearer ") in valid
        return Reply("Yes.") if good else Reply("expired", status=401)

    async with ScriptedProvider(script) as provider:
        settings = ModelConfig(model="openai/x", base_url=provider.url, key_command=command)
        models = Models(Config(discover=False, models={"m": settings}), {})
        now = [0.0]
        models._catalogue._sources._clock = lambda: now[0]

        async def ask(times: int):
            calls = (models.complete("m", QUESTION) for _ in range(times))
            return await asyncio.gather(*calls, return_exceptions=True)

        await ask(1)
        keys.write_text("sk-new-0123456789")
        valid.clear()
        valid.add("sk-new-0123456789")
        answers = await ask(5)
        assert [answer.text for answer in answers] == ["Yes."] * 5
        assert count.read_text() == "xx"
        (info,) = [info for info in models.list() if info.name == "m"]
        assert info.health == "ok"

        # A key that is simply wrong is not asked for by each call that it fails.
        valid.clear()
        now[0] = 30.0
        (failure,) = await ask(1)
        assert isinstance(failure, KeyRefusedError)
        assert count.read_text() == "xx"
        now[0] = 60.0
        await ask(3)
        assert count.read_text() == "xxx"
        await models.close()


async def test_a_key_that_cannot_be_fetched_again_is_told_as_refused(tmp_path: Path) -> None:
    once = tmp_path / "once"
    command = ["sh", "-c", f"test ! -e {once} && touch {once} && echo {KEY}"]
    async with ScriptedProvider([Reply("expired", status=401)]) as provider:
        settings = ModelConfig(model="openai/x", base_url=provider.url, key_command=command)
        models = Models(Config(discover=False, models={"m": settings}), {})
        with pytest.raises(KeyRefusedError, match="refused the key"):
            await models.complete("m", QUESTION)
        await models.close()
    assert len(provider.requests) == 1
