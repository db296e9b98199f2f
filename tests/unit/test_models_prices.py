"""What calls cost: configured, free at home, by the map, and never a guess."""

import subprocess
import sys

import pytest

from rlm_server.config import Config, ModelConfig
from rlm_server.models import Models
from rlm_server.models.prices import Price
from rlm_server.protocol import Usage

MILLION = Usage(prompt_tokens=1_000_000, completion_tokens=1_000_000)


def models(**settings: object) -> Models:
    return Models(Config(discover=False, models={"m": ModelConfig(**settings)}), {})


def test_the_map_knows_prices_and_windows() -> None:
    it = models(model="openai/gpt-4.1")
    assert it.price("m") == (2.0, 8.0)
    assert it.cost("m", MILLION) == pytest.approx(10.0)
    assert it.window("m") == 1_047_576
    assert not it.free("m")


def test_the_configuration_wins_over_the_map() -> None:
    it = models(model="openai/gpt-4.1", input_price=1.0, window=1000)
    assert it.price("m") == (1.0, 8.0)
    assert it.window("m") == 1000


def test_an_unknown_price_stays_unknown() -> None:
    it = models(model="openai/of-tomorrow", base_url="https://llm.example.org/v1")
    assert it.price("m") == (None, None)
    assert it.cost("m", MILLION) is None
    assert it.window("m") is None
    assert not it.free("m")


def test_half_a_price_is_unknown() -> None:
    it = models(model="openai/of-tomorrow", input_price=1.0)
    assert it.price("m") == (1.0, None)
    assert it.cost("m", MILLION) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "ollama_chat/x"},
        {"model": "hosted_vllm/x", "base_url": "http://10.0.0.2:8000/v1"},
        {"model": "openai/gpt-4.1", "base_url": "http://localhost:1/v1"},
        {"model": "openai/gpt-4.1", "input_price": 0.0, "output_price": 0.0},
    ],
)
def test_a_server_of_ones_own_is_free(settings: dict[str, str]) -> None:
    it = models(**settings)
    assert it.free("m")
    assert it.cost("m", MILLION) == 0.0


def test_a_server_of_ones_own_may_have_a_price() -> None:
    it = models(model="hosted_vllm/x", input_price=1.0, output_price=1.0)
    assert not it.free("m")
    assert it.cost("m", MILLION) == 2.0


def test_a_model_of_another_provider_with_the_same_name_lends_no_price() -> None:
    assert models(model="groq/gpt-4.1").price("m") == (None, None)


def test_cached_tokens_and_long_prompts_have_their_own_prices() -> None:
    price = Price(input=2.0, output=10.0, cached=0.5, long_input=4.0, long_output=20.0)
    assert price.of(Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=1)) == 24.0
    assert price.of(Usage(prompt_tokens=200_001, completion_tokens=1)) == 800_024.0
    assert Price(input=2.0, output=1.0).of(Usage(prompt_tokens=3, cached_tokens=3)) == 6.0


def test_ollamas_window_is_the_one_that_is_asked_for() -> None:
    assert models(model="ollama_chat/x").window("m") == 16_384
    assert models(model="ollama_chat/x", window=4096).window("m") == 4096
    assert models(model="ollama_chat/x", params={"num_ctx": 512}).window("m") == 512


def test_importing_models_and_asking_for_a_price_does_not_import_litellm() -> None:
    code = (
        "import sys\n"
        "from rlm_server.models import Models\n"
        "from rlm_server.config import Config\n"
        "models = Models(Config(), {'OPENAI_API_KEY': 'x'})\n"
        "models.list(), models.price(models.root)\n"
        "assert not {'litellm', 'openai', 'httpx', 'aiohttp', 'pydantic'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
