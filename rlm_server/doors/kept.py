"""The command line's view of what is kept between runs: answers, and what they cost."""

from __future__ import annotations

import sys
from typing import Literal

from rlm_server.config import CacheConfig, Config
from rlm_server.models.cache.entry import CacheStore
from rlm_server.models.cache.open import open_database, open_store
from rlm_server.text import to_json


async def cache_command(config: Config, action: Literal["show", "export", "clear"]) -> int:
    """Show the cache's size, print all entries as JSON lines, or remove them. Raises RlmError."""
    store = open_store(config.cache, open_database())
    try:
        if action == "clear":
            count = await store.clear()
            print(f"{count} answer{'s' if count != 1 else ''} removed.")
        elif action == "export":
            async for kept in store.export():
                sys.stdout.buffer.write(to_json(kept) + b"\n")
        else:
            await _show(store, config.cache)
    finally:
        await store.close()
    return 0


async def _show(store: CacheStore, config: CacheConfig) -> None:
    stats = await store.stats()
    print(f"Kept in   {stats.place}{'' if config.enabled else ' (not enabled)'}")
    print(f"Answers   {stats.entries:,}")
    if stats.bytes is not None:
        print(f"Size      {stats.bytes / (1 << 20):.1f} of {config.max_bytes / (1 << 20):.1f} MiB")
    if stats.hits is not None:
        print(f"Used      {stats.hits:,} times")
