"""The configuration: an empty file is right, a wrong one is told by name, secrets are masked."""

import stat
import tomllib
from pathlib import Path

import pytest

from rlm_server.config import CacheConfig, Config, load_config, show_config, state_dir
from rlm_server.errors import ConfigError
from rlm_server.text import without_password

FULL = """
root = "fast"
[limits]
iterations = 5
cell-seconds = 7.5
[models.fast]
model = "openai/gpt-4.1-mini"
key-env = "MY_KEY"
params = { temperature = 0.0, api_key = "hidden-word" }
headers = { Authorization = "Bearer hidden-word", X-Team = "green" }
"""


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_missing_or_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.toml") == Config()
    assert load_config(written(tmp_path, "")) == Config()


def test_what_is_shown_reads_back_as_the_same(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, FULL))
    assert config.limits.cell_seconds == 7.5
    config.models["fast"].params.pop("api_key")
    config.models["fast"].headers.clear()
    assert load_config(written(tmp_path, show_config(config))) == config


def test_secrets_are_masked(tmp_path: Path) -> None:
    shown = show_config(load_config(written(tmp_path, FULL)))
    assert "hidden-word" not in shown
    assert tomllib.loads(shown)["models"]["fast"]["params"]["temperature"] == 0.0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rooot = 1", "rooot"),
        ("[limits]\niterations = 0", "iterations"),
        ("[models.x]\nbase-url = 'http://a'", "model"),
        ("[models.x]\nmodel = 'a/b'\nslots = 'many'", "slots"),
        ("root = [", "config.toml"),
        ("[limits]\nseconds = inf", "finite"),
        (b"\xff\xfe", "config.toml"),
    ],
)
def test_what_is_wrong_is_told_by_name(tmp_path: Path, text: str | bytes, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(written(tmp_path, text))


def test_directories_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_STATE", str(tmp_path / "a" / "state"))
    assert stat.S_IMODE(state_dir().stat().st_mode) == 0o700


def test_the_password_of_the_shared_cache_is_masked(tmp_path: Path) -> None:
    url = "rediss://rlm:hidden-word@cache.example:6379/0"
    shown = show_config(load_config(written(tmp_path, f'[cache]\nurl = "{url}"\n')))
    assert tomllib.loads(shown)["cache"]["url"] == "rediss://********@cache.example:6379/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h:6379/0",
        "redis://:pa/ss/hunter2@h:6379/0",
        "redis://h:6379/0?username=u&password=hunter2",
        "unix:///run/redis.sock?db=0&password=hunter2",
    ],
)
def test_no_part_of_a_password_in_a_url_is_shown(url: str) -> None:
    config = Config(cache=CacheConfig(url=url))
    for shown in (repr(config), show_config(config)):
        assert "hunter2" not in shown
        assert "pa/" not in shown
        assert "redis" in shown
    assert without_password("https://example.org/v1?db=0#a") == "https://example.org/v1?db=0#a"
    assert without_password("me@example.org") == "me@example.org"
