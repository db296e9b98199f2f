"""The store that the configuration names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rlm_server.config import CacheConfig, cache_dir
from rlm_server.errors import ConfigError
from rlm_server.models.cache.embedder import LitellmEmbedder
from rlm_server.models.cache.entry import CacheStore
from rlm_server.models.cache.redis_store import RedisStore
from rlm_server.models.cache.semantic import SemanticCache
from rlm_server.models.cache.sqlite_store import SqliteStore, cache_database
from rlm_server.models.catalogue import Catalogue
from rlm_server.models.database import Database
from rlm_server.models.secret import Secret

FILE = "answers.db"


def open_database() -> Database:
    """The cache's file; nothing is opened before it is used."""
    return cache_database(cache_dir(make=False) / FILE)


def open_store(config: CacheConfig, database: Database) -> CacheStore:
    """The store, whether it is enabled or not. Raises ConfigError for a URL of no known kind."""
    if config.url is None:
        return SqliteStore(database, max_bytes=config.max_bytes, ttl=config.ttl)
    scheme = config.url.partition("://")[0]
    if scheme in ("redis", "rediss", "unix"):
        return RedisStore(config.url, ttl=config.ttl)
    raise ConfigError(f"url in [cache] begins with {scheme!r}.", cure="Write redis://HOST:PORT/0.")


def open_semantic(
    config: CacheConfig,
    database: Database,
    catalogue: Catalogue,
    warm: Callable[[], Awaitable[None]],
) -> SemanticCache | None:
    """The semantic cache, where it is enabled. Raises ConfigError for what it lacks.

    ``warm`` imports litellm; it is awaited before the first embedding.
    """
    if not (config.enabled and config.semantic):
        return None
    if config.embedding_model is None:
        raise ConfigError(
            "semantic in [cache] needs a model that compares questions.",
            cure='Set embedding-model, for instance to "ollama/all-minilm".',
        )
    deployment = catalogue.find(config.embedding_model)

    async def prepare() -> Secret | None:
        await warm()
        return await catalogue.fetch_key(deployment)

    return SemanticCache(
        database,
        LitellmEmbedder(deployment, prepare),
        threshold=config.threshold,
        ttl=config.ttl,
    )
