"""Entries in a Redis server, shared by all who name the same one, with one asking for all."""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from rlm_server.errors import ConfigError
from rlm_server.models.cache.entry import Entry, Kept, Stats, read_entry
from rlm_server.models.database import DatabaseError
from rlm_server.text import without_password

logger = logging.getLogger(__name__)

PREFIX = b"rlm:1:answer:"
LEASE = b"rlm:1:lease:"

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
LEASE_SECONDS = 6.0
"""How long the others wait for one who asks and has died; it is renewed while the call lasts."""
RENEW_SECONDS = LEASE_SECONDS / 3
POLL_SECONDS = 0.1
PAUSE_SECONDS = 30.0
"""How long a server that failed is left alone."""

# Only the holder may renew or give back a lease, and nothing may happen between look and deed.
_RENEW = (
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('pexpire',KEYS[1],ARGV[2]) end"
)
_RETURN = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end"
CURE = "Start the server, or correct url in [cache]; answers are not kept meanwhile."

T = TypeVar("T")


class RedisStore:
    """A ``CacheStore`` over a network. A server that fails is a warning, and tried again later."""

    def __init__(self, url: str, *, ttl: float) -> None:
        """``ttl`` in seconds. Raises ConfigError for a bad URL or without the ``redis`` package."""
        try:
            asyncio_redis: Any = importlib.import_module("redis.asyncio")
            self._errors: Any = importlib.import_module("redis.exceptions").RedisError
            retry: Any = importlib.import_module("redis.asyncio.retry")
            backoff: Any = importlib.import_module("redis.backoff")
        except ImportError as error:
            raise ConfigError(
                "The cache is to be in a Redis server, and the redis package is not installed.",
                cure="Install rlm-server[redis], or remove url from [cache].",
            ) from error
        self._place = without_password(url)
        try:
            self._client = asyncio_redis.from_url(
                url,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                # A kept connection may have been closed by the server; more is our own business.
                retry=retry.Retry(backoff.NoBackoff(), 1),
            )
        except ValueError:
            raise ConfigError(
                f"url in [cache] is no address of a Redis server: {self._place}.",
                cure="Write redis://HOST:PORT/NUMBER.",
            ) from None
        self._ttl = ttl
        self._failure = ""
        self._again = 0.0

    @property
    def broken(self) -> str:
        """Why the server can't be used now; empty while it can."""
        return self._failure if time.monotonic() < self._again else ""

    async def get(self, key: bytes) -> Entry | None:
        """See ``CacheStore``."""
        value = await self._try(self._client.get, PREFIX + key.hex().encode())
        return read_entry(value) if value else None

    async def put(self, key: bytes, entry: Entry) -> None:
        """See ``CacheStore``."""
        name, value = PREFIX + key.hex().encode(), msgspec.json.encode(entry)
        await self._try(self._client.set, name, value, ex=max(1, int(self._ttl)))

    @asynccontextmanager
    async def turn(self, key: bytes) -> AsyncIterator[Entry | None]:
        """See ``CacheStore``; among all processes that share the server."""
        lease, token = LEASE + key.hex().encode(), secrets.token_hex(8).encode()
        milliseconds = int(LEASE_SECONDS * 1000)
        while not await self._try(self._client.set, lease, token, nx=True, px=milliseconds):
            if self.broken:
                break
            await asyncio.sleep(POLL_SECONDS)
            if entry := await self.get(key):
                yield entry
                return
        keeping = asyncio.create_task(self._keep(lease, token, milliseconds))
        try:
            # Looked for again: it may have come between the last look and the lease.
            yield await self.get(key)
        finally:
            keeping.cancel()
            await self._try(self._client.eval, _RETURN, 1, lease, token)

    async def clear(self) -> int:
        """See ``CacheStore``."""
        count = 0
        async for names in self._names():
            count += int(await self._must(self._client.unlink(*names)))
        return count

    async def export(self) -> AsyncIterator[Kept]:
        """See ``CacheStore``."""
        async for names in self._names():
            for name, value in zip(names, await self._must(self._client.mget(names)), strict=True):
                if value and (entry := read_entry(value)):
                    yield Kept(key=name.removeprefix(PREFIX).decode(), entry=entry)

    async def stats(self) -> Stats:
        """See ``CacheStore``."""
        entries = 0
        async for names in self._names():
            entries += len(names)
        return Stats(place=self._place, entries=entries, bytes=None, hits=None)

    async def close(self) -> None:
        """See ``CacheStore``."""
        await self._client.aclose()

    async def _names(self) -> AsyncIterator[list[bytes]]:
        cursor = 0
        while True:
            cursor, names = await self._must(
                self._client.scan(cursor, match=PREFIX + b"*", count=500)
            )
            if names:
                yield names
            if not cursor:
                return

    async def _keep(self, lease: bytes, token: bytes, milliseconds: int) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._try(self._client.eval, _RENEW, 1, lease, token, milliseconds)

    async def _try(self, command: Any, *arguments: Any, **options: Any) -> Any:
        """The command's result, or None where the server fails or is left alone."""
        if self.broken:
            return None
        try:
            return await command(*arguments, **options)
        except (self._errors, OSError, TimeoutError) as error:
            self._failure = f"The Redis server {self._place} can't be used: {_told(error)}"
            self._again = time.monotonic() + PAUSE_SECONDS
            logger.warning("%s. %s", self._failure, CURE)
            return None

    async def _must(self, command: Awaitable[T]) -> T:
        try:
            return await command
        except (self._errors, OSError, TimeoutError) as error:
            told = f"The Redis server {self._place} can't be used: {_told(error)}."
            raise DatabaseError(told, cure=CURE) from error


def _told(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
