"""Which models there are, which is preferred, and where their keys come from."""

import pickle

import pytest

from rlm_server.config import OFFLINE_MODEL, Config, ModelConfig
from rlm_server.errors import ConfigError, NoKeyError, UnknownModelError
from rlm_server.models import Models
from rlm_server.models.deployments import is_loopback
from rlm_server.models.prices import price_map
from rlm_server.models.providers import PROVIDERS
from rlm_server.models.secret import Secret
from rlm_server.text import scrub

CLOUD = ModelConfig(model="openai/gpt-4.1")
LOCAL = ModelConfig(model="hosted_vllm/qwen", base_url="http://127.0.0.1:9/v1")


def names(models: Models) -> list[str]:
    return [info.name for info in models.list()]


def test_with_nothing_at_all_the_embedded_model_answers() -> None:
    models = Models(Config(), {})
    assert (models.root, models.sub) == (OFFLINE_MODEL, OFFLINE_MODEL)
    assert names(models) == [OFFLINE_MODEL]
    models.check(models.root)
    assert models.free(models.root)


def test_a_key_in_the_environment_is_preferred_to_the_embedded_model() -> None:
    models = Models(Config(), {"DEEPSEEK_API_KEY": "sk-deep"})
    assert models.root == PROVIDERS["deepseek"].default
    assert names(models) == [models.root, OFFLINE_MODEL]
    assert models.list()[0].source == "environment"


def test_an_empty_key_is_none() -> None:
    assert Models(Config(), {"OPENAI_API_KEY": " "}).root == OFFLINE_MODEL


def test_without_discovery_the_environment_is_not_looked_at() -> None:
    assert names(Models(Config(discover=False), {"OPENAI_API_KEY": "sk"})) == [OFFLINE_MODEL]


def test_a_configured_model_is_preferred_to_a_found_one() -> None:
    config = Config(models={"mine": LOCAL})
    models = Models(config, {"OPENAI_API_KEY": "sk-x"})
    assert (models.root, models.sub) == ("mine", "mine")
    assert names(models) == ["mine", PROVIDERS["openai"].default, OFFLINE_MODEL]


def test_of_the_configured_models_the_first_with_its_key_is_preferred() -> None:
    config = Config(models={"cloud": CLOUD, "mine": LOCAL})
    assert Models(config, {}).root == "mine"
    assert Models(config, {"OPENAI_API_KEY": "sk-x"}).root == "cloud"


def test_what_is_configured_without_its_key_is_not_replaced_in_silence() -> None:
    models = Models(Config(models={"cloud": CLOUD}), {"ANTHROPIC_API_KEY": "sk-x"})
    assert models.root == "cloud"
    with pytest.raises(NoKeyError, match="cloud needs a key") as caught:
        models.check("cloud")
    places = "$OPENAI_API_KEY or auth-source under api.openai.com"
    assert caught.value.cure == f"Put it in {places}, and restart the server."


def test_root_and_sub_can_be_configured() -> None:
    config = Config(root="a", sub="b", models={"a": LOCAL, "b": LOCAL})
    models = Models(config, {})
    assert (models.root, models.sub) == ("a", "b")


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    models = Models(Config(models={"mine": LOCAL}), {})
    for name in ("nonsense", "nonsense/model", "openai/", "/x", "offline/other"):
        with pytest.raises(UnknownModelError, match="There are: mine, offline/extractive"):
            models.resolve(name, default="mine")
    assert models.resolve(None, default="mine") == "mine"
    assert models.resolve("mine", default=OFFLINE_MODEL) == "mine"


def test_a_litellm_id_needs_no_configuration() -> None:
    models = Models(Config(discover=False), {"OPENAI_API_KEY": "sk-x"})
    assert models.resolve("openai/gpt-4.1", default="") == "openai/gpt-4.1"
    models.check("openai/gpt-4.1")
    assert models.price("openai/gpt-4.1") == (2.0, 8.0)
    with pytest.raises(NoKeyError):
        models.check("anthropic/claude-sonnet-5-5")
    models.check("ollama/llama3")
    assert models.free("ollama/llama3")


def test_keys_are_wanted_for_what_is_configured() -> None:
    config = Config(
        models={
            "cloud": CLOUD,
            "mine": LOCAL,
            "team": ModelConfig(model="openai/x", base_url="https://llm.example.org/v1"),
            "named": ModelConfig(model="openai/x", auth_host="keys.example.org"),
        }
    )
    wanted = {want.name: want.host for want in Models(config, {}).keys_wanted()}
    assert wanted == {
        "cloud": "api.openai.com",
        "team": "llm.example.org",
        "named": "keys.example.org",
    }
    assert Models(config, {"OPENAI_API_KEY": "sk-x"}).keys_wanted() == []


def test_with_nothing_configured_any_providers_key_is_welcome() -> None:
    models = Models(Config(), {})
    hosts = [want.host for want in models.keys_wanted()]
    assert "api.openai.com" in hosts
    assert "api.anthropic.com" in hosts
    chosen = PROVIDERS["anthropic"].default
    assert models.add_keys({chosen: "sk-ant\n", "nobody": "x", OFFLINE_MODEL: "x"}) == [chosen]
    assert models.root == chosen
    assert models.keys_wanted() == []
    assert Models(Config(discover=False), {}).keys_wanted() == []


def test_a_key_that_a_client_gives_wins_over_the_environment() -> None:
    models = Models(Config(models={"cloud": CLOUD}), {"OPENAI_API_KEY": "sk-old"})
    assert models.add_keys({"cloud": "sk-new", "other": "sk"}) == ["cloud"]
    catalogue = models._catalogue
    assert catalogue.key(catalogue.find("cloud")) == Secret("sk-new")


def test_an_empty_key_is_not_accepted() -> None:
    assert Models(Config(models={"cloud": CLOUD}), {}).add_keys({"cloud": "  "}) == []


def test_key_env_replaces_the_usual_variable() -> None:
    config = Config(models={"m": ModelConfig(model="openai/x", key_env="TEAM_KEY")})
    with pytest.raises(NoKeyError, match="needs a key"):
        Models(config, {"OPENAI_API_KEY": "sk-x"}).check("m")
    Models(config, {"TEAM_KEY": "sk-x"}).check("m")


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (None, True),
        ("https://gateway.example.org/v1", True),
        ("http://127.0.0.1:4000/v1", True),
        ("http://gateway.example.org/v1", False),
    ],
)
def test_the_usual_key_never_crosses_a_network_in_the_clear(url: str | None, sent: bool) -> None:
    config = Config(models={"m": ModelConfig(model="openai/x", base_url=url)})
    info = Models(config, {"OPENAI_API_KEY": "sk-x"}).list()[0]
    assert info.key == ("present" if sent else "missing")


def test_a_parameter_that_is_not_for_the_user_to_set_is_a_config_error() -> None:
    settings = ModelConfig(model="openai/x", params={"api_key": "sk-x", "stream": True, "seed": 1})
    with pytest.raises(ConfigError, match=r"\[models.m\] params can't set api_key, stream"):
        Models(Config(models={"m": settings}), {})


def test_every_default_is_known_to_the_price_map() -> None:
    for name, provider in PROVIDERS.items():
        if provider.default and name != "openrouter":
            assert Models(Config(), {}).price(provider.default)[0], name
            assert Models(Config(), {}).window(provider.default), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_provider_is_one_of_litellms() -> None:
    from rlm_server.models.litellm_transport import load

    known = {str(getattr(each, "value", each)) for each in load().provider_list}
    assert set(PROVIDERS) - {"offline"} <= known


def test_the_price_map_is_there() -> None:
    assert len(price_map()) > 1000


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:1/v1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.openai.com", False),
        ("http://192.168.0.2", False),
        ("http://localhost.example.org", False),
        ("localhost:8000", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(url: str | None, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret("sk-12345678")
    assert "1234" not in f"{secret} {secret!r} {[secret]} {secret!s}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == "sk-12345678"


def test_scrubbing_takes_the_longest_first_and_leaves_short_words() -> None:
    assert scrub("abcdefgh abcdef abc", ["abcdef", "abcdefgh", "abc"]) == "*** *** abc"
