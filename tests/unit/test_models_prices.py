"""What calls cost: configured, free at home, by the map, and never a guess."""

import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.config import Config, ModelConfig
from rlm_server.models import Models
from rlm_server.models.deployments import Deployment
from rlm_server.models.litellm_transport import load
from rlm_server.models.off_peak import OffPeak
from rlm_server.models.prices import Price, highest, price_map, price_of
from rlm_server.models.providers import PROVIDERS
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
    long = Price(input=4.0, output=20.0, cached=1.0)
    price = Price(input=2.0, output=10.0, cached=0.5, longer=((200_000, long),))
    assert price.of(Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=1)) == 24.0
    assert price.of(Usage(prompt_tokens=200_000, completion_tokens=1)) == 400_010.0
    assert price.of(Usage(prompt_tokens=200_001, completion_tokens=1)) == 800_024.0
    assert price.of(Usage(prompt_tokens=200_001, cached_tokens=200_001)) == 200_001.0
    assert Price(input=2.0, output=1.0).of(Usage(prompt_tokens=3, cached_tokens=3)) == 6.0


def test_several_cost_at_most_the_highest_of_each_kind() -> None:
    dear = highest([Price(input=1.0, output=10.0), Price(input=5.0, output=8.0)])
    assert (dear.input, dear.output) == (5.0, 10.0)
    assert highest([Price(input=1.0, output=1.0), Price(output=1.0)]).input is None


def test_the_worst_case_of_a_long_prompt_is_at_the_price_of_long_prompts() -> None:
    it = models(model="gemini/gemini-2.5-pro")
    assert it.price("m") == it.price("m", 200_000) == (1.25, 10.0)
    assert it.price("m", 200_001) == (2.5, 15.0)


def test_a_class_of_service_has_its_own_price_or_none_that_is_known() -> None:
    usual = models(model="gemini/gemini-2.5-pro")
    for tier in ("default", "auto"):
        it = models(model="gemini/gemini-2.5-pro", params={"service_tier": tier})
        assert it.price("m") == usual.price("m")
    it = models(model="gemini/gemini-2.5-pro", params={"service_tier": "priority"})
    assert it.price("m") == (2.25, 18.0)
    it = models(model="gemini/gemini-2.5-pro", params={"service_tier": "of-tomorrow"})
    assert it.price("m") == (None, None)
    assert it.window("m") == usual.window("m")


def test_every_chat_model_of_the_map_costs_what_litellm_says() -> None:
    """Also with cached tokens, and with prompts that are long enough to cost more."""
    litellm = load()
    wrong, seen = [], 0
    for name in price_map():
        about = litellm.model_cost.get(name) or {}
        provider = about.get("litellm_provider")
        # Of Fireworks' cached tokens litellm knows a discount that is not in the map.
        if about.get("mode") != "chat" or provider not in PROVIDERS or provider == "fireworks_ai":
            continue
        if "off_peak_pricing" in about:  # costs what the clock says
            continue
        model = name if name.startswith(f"{provider}/") else f"{provider}/{name}"
        price = price_of(Deployment(name="m", settings=ModelConfig(model=model), source="config"))
        for prompt, cached in ((1000, 0), (1000, 800), (150_000, 0), (250_000, 1000), (10**6, 0)):
            ours = price.of(
                Usage(prompt_tokens=prompt, completion_tokens=500, cached_tokens=cached)
            )
            usage = litellm.Usage(
                prompt_tokens=prompt,
                completion_tokens=500,
                total_tokens=prompt + 500,
                prompt_tokens_details={"cached_tokens": cached},
            )
            theirs = sum(litellm.cost_per_token(model=model, usage_object=usage))
            if (ours or 0.0) != pytest.approx(theirs):  # unknown to us is free to it
                wrong.append((model, prompt, cached, ours, theirs))
            seen += 1
    assert not wrong
    assert seen > 1000


OFF_PEAK = {
    "input_cost_per_token": 1.0,
    "windows": [
        {"hours_utc": ["00:00-01:00", "22:30-04:00"], "weekdays": [1, 2, 3, 4, 5]},
        {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
    ],
}


@pytest.mark.parametrize(
    "block",
    [
        OFF_PEAK,
        OFF_PEAK | {"weekday_timezone": "Asia/Shanghai"},
        {"hours_utc": "16:30-00:30"},
        {"hours_utc": ["04:00-06:00", "10:00-00:00"]},
        {},
    ],
)
@given(when=st.datetimes(timezones=st.just(UTC)))
def test_the_hours_in_which_less_is_charged_are_litellms(block: dict, when: datetime) -> None:
    load()
    theirs = import_module("litellm.litellm_core_utils.llm_cost_calc.utils")
    assert msgspec.convert(block, OffPeak).open(when) is theirs._is_off_peak(block, when)


def test_what_was_used_costs_less_in_those_hours_and_the_worst_case_does_not() -> None:
    deployment = Deployment(
        name="m", settings=ModelConfig(model="deepseek/deepseek-v4-flash"), source="config"
    )
    price = price_of(deployment)
    sunday, monday = datetime(2026, 11, 29, 8, tzinfo=UTC), datetime(2026, 11, 30, 8, tzinfo=UTC)
    assert price.of(MILLION) == price.of(MILLION, when=monday) == pytest.approx(1.5)
    assert price.of(MILLION, when=sunday) == pytest.approx(0.75)
    assert price.per_million() == (0.3, 1.2)


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
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
