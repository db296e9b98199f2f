"""What is kept of an answer, under which key, and what a store of them can do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from rlm_server.models.calls import Message
from rlm_server.models.deployments import Deployment

SCHEMA = 1
"""Part of every key: raise it when the meaning of a key or an entry changes."""

ASKED = 200
"""Characters of the last message that an entry shows in an export; prompts are not kept."""

_SECRET = frozenset({"apikey", "auth", "authorization", "cookie", "key", "secret", "token"})
"""Words in the names of headers whose values are secrets."""
_IDLE = frozenset({"http-referer", "referer", "user-agent", "x-request-id", "x-title"})
"""Further headers that can't change an answer."""


class Entry(msgspec.Struct, kw_only=True):
    """One answer."""

    text: str
    model: str
    """The id by which the model was asked."""
    prompt_tokens: int
    completion_tokens: int
    created: float
    """Seconds since the epoch."""
    asked: str = ""
    """How the last message begins."""


class Kept(msgspec.Struct, rename="camel", kw_only=True):
    """An entry as an export shows it."""

    key: str
    """In hexadecimal."""
    entry: Entry


def read_entry(value: bytes) -> Entry | None:
    """An entry as it was stored; None where it is damaged."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


_decoder = msgspec.json.Decoder(Entry)


class Stats(msgspec.Struct, kw_only=True):
    """The size of a store."""

    place: str
    """A path, or a URL without its password."""
    entries: int
    bytes: int | None
    """None where the store doesn't tell."""
    hits: int | None
    """Times that the entries now in it were used; None where the store doesn't count."""


class CacheStore(Protocol):
    """Keeps entries. Never raises: a store that fails finds nothing and keeps nothing."""

    @property
    def broken(self) -> str:
        """Why it can't be used now; empty while it can."""

    async def get(self, key: bytes) -> Entry | None:
        """The entry of this key, where there is one that is young enough."""

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry; one of the same key gives way."""

    def turn(self, key: bytes) -> AbstractAsyncContextManager[Entry | None]:
        """Wait until nobody else who shares the store is asking for this.

        Gives the answer that somebody else got meanwhile, or None: then it is one's own turn to
        ask, until the context is left.
        """

    async def clear(self) -> int:
        """Remove all entries and say how many there were; raises RlmError where that fails."""

    def export(self) -> AsyncIterator[Kept]:
        """All entries; raises RlmError where they can't be read."""

    async def stats(self) -> Stats:
        """The size; raises RlmError where it can't be told."""

    async def close(self) -> None:
        """Write what waits, and let go."""


def request_key(
    deployment: Deployment, messages: Sequence[Message], max_tokens: int | None
) -> bytes:
    """SHA-256 of everything that can change the answer.

    That is the model's id as it is sent, the messages, every parameter and the headers that
    configure a gateway; not the address, the key, nor whether the reply is streamed.
    """
    settings = deployment.settings
    headers = {name.lower(): value for name, value in settings.headers.items()}
    canonical = {
        "schema": SCHEMA,
        "model": deployment.model,
        # TOML has dates and infinities, which JSON as such has not.
        "params": json.dumps(deployment.params, sort_keys=True, default=str),
        "headers": sorted((k, v) for k, v in headers.items() if _matters(k)),
        "max_tokens": max_tokens,
        "messages": messages,
    }
    return hashlib.sha256(_encode(canonical)).digest()


def sample_key(request: bytes, sample: int) -> bytes:
    """The key of one of several answers to the same request."""
    return hashlib.sha256(request + sample.to_bytes(8, "big")).digest()


def deterministic(deployment: Deployment) -> bool:
    """Whether asking twice is asking for the same: at temperature 0, or with a seed."""
    params = deployment.params
    return params.get("temperature") == 0 or params.get("seed") is not None


def _matters(header: str) -> bool:
    return header not in _IDLE and _SECRET.isdisjoint(header.replace("_", "-").split("-"))


def _encode(canonical: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(canonical, order="deterministic")
    except UnicodeEncodeError:  # lone surrogates, which json escapes and so keeps apart
        return json.dumps(canonical, sort_keys=True).encode()
