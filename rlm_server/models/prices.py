"""Prices and windows: litellm's map, read from its package without importing litellm."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import msgspec

from rlm_server.models.deployments import Deployment
from rlm_server.protocol import Usage

LONG_PROMPT = 200_000
"""Tokens beyond which some providers charge their higher rate."""

MILLION = 1_000_000


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the map: US dollars for one token, and the window in tokens."""

    input: float | None = msgspec.field(default=None, name="input_cost_per_token")
    output: float | None = msgspec.field(default=None, name="output_cost_per_token")
    cached: float | None = msgspec.field(default=None, name="cache_read_input_token_cost")
    written: float | None = msgspec.field(default=None, name="cache_creation_input_token_cost")
    long_input: float | None = msgspec.field(
        default=None, name="input_cost_per_token_above_200k_tokens"
    )
    long_output: float | None = msgspec.field(
        default=None, name="output_cost_per_token_above_200k_tokens"
    )
    window: int | None = msgspec.field(default=None, name="max_input_tokens")
    provider: str = msgspec.field(default="", name="litellm_provider")

    def of(self, usage: Usage, *, written: int = 0) -> float | None:
        """US dollars for what was used; None where a price is unknown.

        ``written`` are the prompt tokens that were put into the provider's prefix cache.
        """
        if self.input is None or self.output is None:
            return None
        long = usage.prompt_tokens > LONG_PROMPT
        prompt = (long and self.long_input) or self.input
        completion = (long and self.long_output) or self.output
        cached = prompt if self.cached is None else min(self.cached, prompt)
        fresh = usage.prompt_tokens - usage.cached_tokens
        paid = fresh * prompt + usage.cached_tokens * cached + usage.completion_tokens * completion
        return paid + written * max(0.0, (self.written or prompt) - prompt)

    def per_million(self) -> tuple[float | None, float | None]:
        """US dollars for a million tokens of prompt and of completion."""
        return _per_million(self.input), _per_million(self.output)


UNKNOWN = Price()
FREE = Price(input=0.0, output=0.0)


def price_of(deployment: Deployment) -> Price:
    """What a deployment costs: as configured, nothing on one's own server, else by the map."""
    settings = deployment.settings
    listed = _listed(deployment)
    if settings.input_price is None and settings.output_price is None:
        return FREE if deployment.free else listed
    stated_in, stated_out = settings.input_price, settings.output_price
    return Price(
        input=listed.input if stated_in is None else stated_in / MILLION,
        output=listed.output if stated_out is None else stated_out / MILLION,
    )


def highest(prices: Iterable[Price]) -> Price:
    """What is paid at most when any of several may answer; unknown where one is unknown."""
    known = list(prices)
    if len(known) == 1:
        return known[0]
    if any(price.input is None or price.output is None for price in known):
        return UNKNOWN
    return max(known, key=lambda price: (price.output or 0.0, price.input or 0.0))


def window_of(deployment: Deployment) -> int | None:
    """The context window in tokens: as configured or told by the server, else by the map."""
    return deployment.window or _listed(deployment).window


def _listed(deployment: Deployment) -> Price:
    if deployment.provider == "offline":
        return UNKNOWN
    _, _, bare = deployment.model.partition("/")
    entry = _entry(deployment.model) or _entry(bare)
    if entry is None or entry.provider not in (deployment.provider, ""):
        return UNKNOWN
    # A hosted model without a price is one whose price the map's makers did not know.
    if not entry.input and not entry.output and not deployment.model.endswith(":free"):
        return Price(window=entry.window)
    return entry


@cache
def _entry(model: str) -> Price | None:
    raw = price_map().get(model)
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Price, strict=False)
    except msgspec.DecodeError:
        return None


@cache
def price_map() -> dict[str, msgspec.Raw]:
    """The offline map by model id; empty where litellm isn't installed."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    except (OSError, msgspec.DecodeError):
        return {}


def _per_million(price: float | None) -> float | None:
    return None if price is None else round(price * MILLION, 9)
