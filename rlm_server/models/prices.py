"""Prices and windows: litellm's map, read from its package without importing litellm."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.models.deployments import Deployment
from rlm_server.models.off_peak import OffPeak
from rlm_server.protocol import Usage

MILLION = 1_000_000

LONGER = re.compile(r"input_cost_per_token(_above_(\d+)k_tokens)")
"""Names the price of a prompt of more than so many thousand tokens, of which all tokens cost it."""

USUAL = ("", "auto", "default", "standard")
"""What ``service_tier`` may say where the prices are those that the map has for all."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the map: US dollars for one token, and the window in tokens."""

    input: float | None = None
    output: float | None = None
    cached: float | None = None
    """Of a token of the prompt that was in the provider's prefix cache."""
    written: float | None = None
    """Of one that was put into it."""
    longer: tuple[tuple[int, Price], ...] = ()
    """Prices of prompts of more than so many tokens, the highest number first."""
    off_peak: tuple[OffPeak, Price] | None = None
    """Hours with a lower price."""
    window: int | None = None
    provider: str = ""

    def at(self, prompt_tokens: int) -> Price:
        """The price of a call with a prompt of so many tokens."""
        return next((price for above, price in self.longer if prompt_tokens > above), self)

    def of(self, usage: Usage, *, written: int = 0, when: datetime | None = None) -> float | None:
        """US dollars for what was used; None where a price is unknown.

        ``written`` are the prompt tokens that were put into the provider's prefix cache. Without
        ``when``, at the price of the dearest hours.
        """
        price = self.at(usage.prompt_tokens)
        if when and self.off_peak and self.off_peak[0].open(when):
            price = self.off_peak[1]
        if price.input is None or price.output is None:
            return None
        cached = price.input if price.cached is None else min(price.cached, price.input)
        fresh = usage.prompt_tokens - usage.cached_tokens
        paid = fresh * price.input + usage.cached_tokens * cached
        paid += usage.completion_tokens * price.output
        return paid + written * max(0.0, (price.written or price.input) - price.input)

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
    """What is paid at most when any of several may answer; unknown where one is unknown.

    Of several, prompts have one price, whatever their length: see ``Price.at``.
    """
    known = list(prices)
    if len(known) == 1:
        return known[0]
    inputs, outputs = [price.input for price in known], [price.output for price in known]
    return Price(
        input=None if None in inputs else max(filter(None, inputs), default=0.0),
        output=None if None in outputs else max(filter(None, outputs), default=0.0),
    )


def window_of(deployment: Deployment) -> int | None:
    """The context window in tokens: as configured or told by the server, else by the map."""
    return deployment.window or _listed(deployment).window


def is_openais(deployment: Deployment) -> bool:
    """Whether it is a model of OpenAI's own, whoever passes it on."""
    if deployment.provider != "openai":
        return False
    entry = _entry(deployment.model.removeprefix("openai/"), "")
    return entry is not None and entry.provider == "openai"


def _listed(deployment: Deployment) -> Price:
    if deployment.provider == "offline":
        return UNKNOWN
    _, _, bare = deployment.model.partition("/")
    service = str(deployment.params.get("service_tier") or "")
    entry = _entry(deployment.model, service) or _entry(bare, service)
    if entry is None or entry.provider not in (deployment.provider, ""):
        return UNKNOWN
    # A hosted model without a price is one whose price the map's makers did not know.
    if not entry.input and not entry.output and not deployment.model.endswith(":free"):
        return Price(window=entry.window)
    return entry


@cache
def _entry(model: str, service: str) -> Price | None:
    """What the map says of a model; ``service`` is a class of service with prices of its own."""
    raw = price_map().get(model)
    if raw is None:
        return None
    kind = "" if service in USUAL else f"_{service}"
    try:
        told = msgspec.json.decode(raw, type=dict[str, Any])
        price = _price(told, kind, UNKNOWN)
        aboves = {int(kilo) * 1000: above for above, kilo in LONGER.findall(" ".join(told))}
        longer = [
            (above, _price(told, aboves[above] + kind, price))
            for above in sorted(aboves, reverse=True)
        ]
        less = told.get("off_peak_pricing")
        off_peak = less and (msgspec.convert(less, OffPeak), _price(less, kind, price))
    except msgspec.MsgspecError:
        return None
    return msgspec.structs.replace(price, longer=tuple(longer), off_peak=off_peak)


def _price(told: dict[str, Any], kind: str, base: Price) -> Price:
    """The prices of a kind, by the end of their names, and ``base`` where it has none."""
    fields = {
        "input": told.get(f"input_cost_per_token{kind}", base.input),
        "output": told.get(f"output_cost_per_token{kind}", base.output),
        "cached": told.get(f"cache_read_input_token_cost{kind}", base.cached),
        "written": told.get(f"cache_creation_input_token_cost{kind}", base.written),
        "window": told.get("max_input_tokens"),
        "provider": told.get("litellm_provider") or "",
    }
    return msgspec.convert(fields, Price, strict=False)


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
