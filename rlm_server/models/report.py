"""What ``rlm/status`` and ``rlm-server models`` tell of a model and its deployments."""

from __future__ import annotations

from rlm_server.models.catalogue import Catalogue
from rlm_server.models.deployments import Deployment
from rlm_server.models.pool import Group
from rlm_server.models.prices import highest, price_of
from rlm_server.models.server import Server
from rlm_server.protocol import DeploymentInfo, ModelInfo

BEST_FIRST = ("ok", "untried", "limited", "trying", "down", "no key")


def info_of(model: Deployment, catalogue: Catalogue, group: Group | None, now: float) -> ModelInfo:
    """A model as it is now; ``group`` is None where it has not been asked yet."""
    members = catalogue.members_of(model.name)
    running = {server.deployment.name: server for server in group.servers} if group else {}
    rows = []
    for member in members:
        server = running.get(member.name) or Server(member)
        rows.append(_row(server, now, has_key=catalogue.key_state(member) != "missing"))
    able = catalogue.able(model.name)
    input_price, output_price = highest(map(price_of, able)).per_million()
    return ModelInfo(
        name=model.name,
        model=model.model,
        provider=model.provider,
        source=model.source,
        window=catalogue.window(model.name),
        input_price=input_price,
        output_price=output_price,
        key=catalogue.key_state(model),
        health=min((row.health for row in rows), key=BEST_FIRST.index),
        slots=sum(row.slots for row in rows),
        in_flight=sum(row.in_flight for row in rows),
        waiting=group.waiting if group else 0,
        latency=min((row.latency for row in rows if row.latency is not None), default=None),
        fallbacks=model.settings.fallbacks,
        roles=catalogue.roles(model.name),
        deployments=rows,
    )


def _row(server: Server, now: float, *, has_key: bool) -> DeploymentInfo:
    latency = server.latency.at(now)
    return DeploymentInfo(
        name=server.deployment.name,
        address=server.deployment.address,
        tier=server.tier,
        health=server.health(now) if has_key else "no key",
        slots=server.slots.whole,
        in_flight=server.in_flight,
        latency=None if latency is None else round(latency, 3),
        calls=server.calls,
        detail=server.detail,
    )
