"""What a kept answer costs, beside the bare reading of a row, and what asking a server costs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

from table import print_table

from rlm_server.config import Config, ModelConfig
from rlm_server.models import Account, Message, Models
from rlm_server.models.cache.entry import request_key, sample_key
from scripted_provider import Reply, ScriptedProvider

CALLS = 1000
ROUNDS = 7
ANSWER = "An answer of some length. " * 120
MOST = 0.2
"""Milliseconds for a kept answer to a prompt of up to ``USUAL`` characters; the key of a longer one
is a hash of all of it."""
USUAL = 10_000
PROMPTS = (("400 characters", 400), ("10,000 characters", 10_000), ("100,000 characters", 100_000))


def messages(number: int, size: int) -> list[Message]:
    """A sub-call's messages."""
    text = f"{number}: " + "lorem ipsum " * (size // 12)
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


async def timed(work: Callable[[int], Awaitable[object]], count: int = CALLS) -> list[float]:
    """Milliseconds a call, of each round."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for number in range(count):
            await work(number)
        rounds.append((time.perf_counter() - started) / count * 1000)
    return rounds


async def measure(models: Models, size: int) -> list[tuple[str, list[float]]]:
    """The rows of one size of prompt."""
    asked = [messages(number, size) for number in range(100)]
    for each in asked:
        await models.complete("m", each, account=Account("first"))
    assert models.cache.store
    await asyncio.to_thread(models._kept.flush)
    deployment = models._catalogue.find("m")
    keys = [sample_key(request_key(deployment, each, None), 0) for each in asked]
    raw = sqlite3.connect(models._kept.path)

    async def row(number: int) -> None:
        found = raw.execute("SELECT value FROM entry WHERE key = ?", (keys[number % 100],))
        assert found.fetchone()

    async def hit(number: int) -> None:
        answer = await models.complete("m", asked[number % 100], account=Account(str(number)))
        assert answer.cached

    rows = [("raw sqlite3 get", await timed(row)), ("kept answer", await timed(hit))]
    raw.close()
    return rows


async def main() -> int:
    warnings.simplefilter("ignore")
    missed = False
    reply = Reply(ANSWER)
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        os.environ["RLM_CACHE"] = os.environ["RLM_STATE"] = str(Path(name))
        async with ScriptedProvider(lambda _: reply) as provider:
            settings = ModelConfig(model="openai/scripted", base_url=provider.url)
            models = Models(Config(discover=False, models={"m": settings}), {})
            rows = []
            for title, size in PROMPTS:
                measured = await measure(models, size)
                floor = statistics.median(measured[0][1])
                missed |= size <= USUAL and statistics.median(measured[1][1]) > MOST
                for what, times in measured:
                    median = statistics.median(times)
                    rows.append(
                        [
                            f"{what}, {title}",
                            f"{median:.3f}",
                            f"{max(times):.3f}",
                            f"{median / floor:.1f}",
                        ]
                    )

            async def ask(number: int) -> None:
                await models.complete("m", messages(number, 400))

            times = await timed(ask, 50)
            median = statistics.median(times)
            rows.append(
                ["asking a server that answers at once", f"{median:.3f}", f"{max(times):.3f}", ""]
            )
            print_table("One call, ms", ["", "median", "worst", "ratio to raw"], rows)
            await models.close()
    if missed:
        print(f"MISSED: {MOST} ms for a kept answer")
    return int(missed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
