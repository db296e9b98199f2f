"""The store that the configuration names."""

from __future__ import annotations

from rlm_server.config import CacheConfig, cache_dir
from rlm_server.errors import ConfigError
from rlm_server.models.cache.entry import CacheStore
from rlm_server.models.cache.redis_store import RedisStore
from rlm_server.models.cache.semantic import SemanticCache
from rlm_server.models.cache.sqlite_store import SqliteStore, cache_database
from rlm_server.models.catalogue import Catalogue
from rlm_server.models.database import Database

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
    config: CacheConfig, database: Database, catalogue: Catalogue
) -> SemanticCache | None:
    """The semantic cache, where it is enabled. Raises ConfigError for what it lacks."""
    if not (config.enabled and config.semantic):
        return None
    if config.embedding_model is None:
        raise ConfigError(
            "semantic in [cache] needs a model that compares questions.",
            cure='Set embedding-model, for instance to "ollama/all-minilm".',
        )
    members = catalogue.members_of(config.embedding_model)
    models = {member.model.partition("/")[2] or member.model for member in members}
    if len(models) > 1:
        raise ConfigError(
            f"{config.embedding_model}, which compares questions, has deployments of several "
            f"models: {', '.join(sorted(models))}. Their vectors can't be compared.",
            cure="Give each its own [models.NAME].",
        )
    return SemanticCache(
        database,
        embedder=members[0].model.replace("ollama_chat/", "ollama/", 1),
        threshold=config.threshold,
        ttl=config.ttl,
    )
