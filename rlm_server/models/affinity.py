"""Sending prompts that begin alike to the same server, which then has their beginning cached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from rlm_server.models.calls import Message
from rlm_server.models.server import Server

PREFIX = 1024
"""Characters of a prompt by which it is told from others."""

SHORTEST = 512
"""Characters; a shorter prompt gains nothing by a prefix cache."""

OVERLOAD = 1.25
"""How much more than its share of the calls a server may have for the sake of its cache."""

SLOWER = 2.0
"""How much slower than the fastest a server may be for the sake of its cache."""


def prefix_of(messages: Sequence[Message]) -> bytes | None:
    """What is alike in prompts that share a cache: how the first message that varies begins.

    A system prompt is the same for all calls of a kind, and would send them all to one server.
    """
    content = next((m["content"] for m in messages if m["role"] != "system"), "")
    if sum(len(message["content"]) for message in messages) < SHORTEST:
        return None
    return blake2b(content[:PREFIX].encode("utf-8", "replace"), digest_size=8).digest()


def at_home(servers: Sequence[Server], prefix: bytes, latencies: Sequence[float]) -> Server | None:
    """The server that has this beginning, unless it is too busy or too slow; else the next.

    Rendezvous hashing, weighted by slots: each server keeps its prompts when another comes or
    goes. The bound on the load keeps a popular beginning from drowning one server.
    """
    fastest = min(latencies)
    total = sum(server.in_flight for server in servers) + 1
    slots = sum(server.slots.limit for server in servers)
    fit = [
        server
        for server, latency in zip(servers, latencies, strict=True)
        if latency <= SLOWER * fastest
        and server.has_room
        and server.in_flight < math.ceil(OVERLOAD * total * server.slots.limit / slots)
    ]
    return min(fit, key=lambda server: _distance(server, prefix), default=None)


def _distance(server: Server, prefix: bytes) -> float:
    name = server.deployment.name.encode()
    drawn = int.from_bytes(blake2b(name, digest_size=8, key=prefix).digest(), "big")
    return -math.log((drawn + 1) / 2**64) / server.slots.first
