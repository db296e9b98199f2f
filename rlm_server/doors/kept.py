"""The command line's view of what is kept between runs: answers, and what they cost."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from rlm_server.config import CacheConfig, Config
from rlm_server.context.store import stored
from rlm_server.models.cache.entry import CacheStore
from rlm_server.models.cache.open import open_database, open_store
from rlm_server.models.costs import Costs
from rlm_server.text import dollars, to_json

MONTHS = 12


async def cache_command(config: Config, action: Literal["show", "export", "clear"]) -> int:
    """Show the cache's size, print all entries as JSON lines, or remove them. Raises RlmError.

    Removing takes the prepared contexts along that no run is using.
    """
    database = open_database()
    store = open_store(config.cache, database)
    try:
        if action == "clear":
            count = await store.clear()
            if config.cache.url:  # similar questions are kept here all the same
                await open_store(CacheConfig(), database).clear()
            print(f"{count} answer{'s' if count != 1 else ''} removed.")
            if contexts := await asyncio.to_thread(stored(config.context).clear):
                print(f"{contexts} prepared context{'s' if contexts != 1 else ''} removed.")
        elif action == "export":
            async for kept in store.export():
                sys.stdout.buffer.write(to_json(kept) + b"\n")
        else:
            await _show(store, config.cache)
    finally:
        await store.close()
        await asyncio.to_thread(database.close)
    return 0


async def _show(store: CacheStore, config: CacheConfig) -> None:
    stats = await store.stats()
    print(f"Kept in   {stats.place}{'' if config.enabled else ' (not enabled)'}")
    print(f"Answers   {stats.entries:,}")
    if stats.bytes is not None:
        print(f"Size      {stats.bytes / (1 << 20):.1f} of {config.max_bytes / (1 << 20):.1f} MiB")
    if stats.hits is not None:
        print(f"Used      {stats.hits:,} times")


async def costs_command(config: Config) -> int:
    """Print what the last months have cost, by project and model."""
    costs = Costs(config.costs)
    result = await costs.report(MONTHS)
    costs.close()
    if result.problem:
        print(f"rlm-server: {result.problem}.", file=sys.stderr)
        return 1
    heads = ("Month", "Project", "Model", "Calls", "Kept", "Tokens in", "Tokens out", "US dollars")
    rows = [heads]
    for row in result.rows:
        cost = f"{row.known_cost:.4f}"
        rows.append(
            (
                row.month,
                row.project or "-",
                row.model,
                f"{row.calls:,}",
                f"{row.cached_calls:,}",
                f"{row.prompt_tokens:,}",
                f"{row.completion_tokens:,}",
                cost if row.cost is not None else f"unknown ({cost} of it known)",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for line in rows:
        cells = [
            cell.rjust(width) if 2 < i < 7 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    limit = f" of {dollars(result.limit)}" if result.limit is not None else ""
    unknown = f", and {result.unknown_calls:,} calls of unknown price" * bool(result.unknown_calls)
    print(f"\n{result.month}: ${result.spent:.4f}{limit} spent{unknown}.")
    for project, most in sorted(config.costs.project_limits.items()):
        known = sum(
            row.known_cost
            for row in result.rows
            if row.month == result.month and row.project == project
        )
        print(f"{result.month}, {project}: ${known:.4f} of {dollars(most)} spent.")
    return 0
