"""``rlm-server models``: what there is to ask, where, at which price, and how it is."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_server.config import Config
from rlm_server.models import Models
from rlm_server.protocol import DeploymentInfo, ModelInfo

HEADS = (
    *("name", "model", "source", "tier", "window", "$/M in, out", "key", "health", "busy"),
    "used as",
)


async def models_command(config: Config) -> int:
    """Print the models, those first that are preferred; the exit status is 0."""
    models = Models(config)
    try:
        found = await models.examine()
    finally:
        await models.close()
    rows = [row for info in found for row in _rows(info)]
    widths = [max(len(row[column]) for row in (HEADS, *rows)) for column in range(len(HEADS))]
    for row in (HEADS, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"\nQuestions go to {models.root}, sub-calls to {models.sub}.")
    return 0


def _rows(info: ModelInfo) -> list[Sequence[str]]:
    """One row for a model, and one for each of its deployments where there are several."""
    several = len(info.deployments) > 1
    tiers = "/".join(dict.fromkeys(each.tier for each in info.deployments))
    price = f"{_dollars(info.input_price)}, {_dollars(info.output_price)}"
    window = f"{info.window:,}" if info.window else "unknown"
    state = info.deployments[0] if not several else info
    busy = f"{info.in_flight}/{info.slots}"
    head = (
        info.name,
        info.model,
        info.source,
        tiers,
        window,
        price,
        info.key,
        _health(state),
        busy,
        ", ".join(info.roles),
    )
    return [head, *(_member(each) for each in info.deployments if several)]


def _member(info: DeploymentInfo) -> Sequence[str]:
    busy = f"{info.in_flight}/{info.slots}"
    return (f"  {info.name}", info.address, "", info.tier, "", "", "", _health(info), busy, "")


def _health(info: ModelInfo | DeploymentInfo) -> str:
    detail = info.detail if isinstance(info, DeploymentInfo) else ""
    return f"{info.health} ({detail})" if detail else info.health


def _dollars(price: float | None) -> str:
    return "unknown" if price is None else f"{price:g}"
