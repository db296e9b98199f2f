"""Hits and false hits of the semantic cache over our pairs, by threshold, with and without guard.

Three sets: ``semantic_pairs.toml``, which the guard was made with, ``semantic_more.toml``, which
found a gap in it, and ``semantic_heldout.toml``, which it was never changed for. The vectors are
those of all-MiniLM-L6-v2 (``minilm.py``), served on loopback as Ollama would serve it; where its
wheel can't be had, those of ``ngram_embedder`` (hashed words and parts of words), and it says so.
To measure another model::

    RLM_EMBEDDING_MODEL=ollama/nomic-embed-text RLM_EMBEDDING_URL=http://127.0.0.1:11434 make bench
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
import tomllib
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import minilm
import msgspec
from table import print_table

import ngram_embedder
from rlm_server.config import CacheConfig, Config, ModelConfig
from rlm_server.models import Models
from rlm_server.models.cache.guard import difference
from scripted_provider import ScriptedProvider

THRESHOLDS = (0.60, 0.70, 0.75, 0.80, 0.83, 0.85, 0.88, 0.90, 0.92, 0.95, 0.97, 0.99)
SETS = {
    "made with": "semantic_pairs.toml",
    "known to": "semantic_more.toml",
    "held out": "semantic_heldout.toml",
}


class Pair(msgspec.Struct):
    """Two questions, and whether one answer does for both."""

    group: str
    same: bool
    one: str
    other: str
    similarity: float = 0.0
    passes: bool = True
    """Whether the guard lets it pass."""

    def hit(self, threshold: float, *, guarded: bool) -> bool:
        """Whether one would be answered with the other's answer."""
        return self.similarity >= threshold and (self.passes or not guarded)


def load(name: str) -> list[Pair]:
    groups = tomllib.loads(Path(__file__).with_name(name).read_text("utf-8"))
    return [
        Pair(group, about["same"], one, other, passes=not difference(one, other))
        for group, about in groups.items()
        for one, other in about["pairs"]
    ]


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, str, str | None]]:
    """The embedding model: what to call it, litellm's id, and its address."""
    named = os.environ.get("RLM_EMBEDDING_MODEL")
    if named:
        yield named, named, os.environ.get("RLM_EMBEDDING_URL")
        return
    place = await asyncio.to_thread(minilm.fetch)
    if place:
        name, embed = minilm.NAME, minilm.MiniLM(place).embed
    else:
        print("The wheel of all-MiniLM-L6-v2 can't be had: a stand-in that knows no meaning.")
        name, embed = "hashed words and parts of words", ngram_embedder.embed
    async with ScriptedProvider(answering(embed)) as provider:
        yield name, "ollama_chat/served", provider.url.removesuffix("/v1")


def answering(embed: Callable[[str], list[float]]):  # type: ignore[no-untyped-def]
    return lambda request: ngram_embedder.embeddings(request, embed)


async def measure(pairs: Sequence[Pair], model: str, url: str | None) -> None:
    """Give each pair its similarity, by the way that a question goes."""
    settings = ModelConfig(model=model, base_url=url)
    cache = CacheConfig(semantic=True, embedding_model="e")
    models = Models(Config(discover=False, models={"e": settings}, cache=cache), dict(os.environ))
    vectors = {}
    for text in sorted({text for pair in pairs for text in (pair.one, pair.other)}):
        numbers = (await models.embed(text)).numbers
        length = sum(number * number for number in numbers) ** 0.5
        vectors[text] = [number / length for number in numbers]
    await models.close()
    for pair in pairs:
        both = zip(vectors[pair.one], vectors[pair.other], strict=True)
        pair.similarity = sum(a * b for a, b in both)


def print_thresholds(title: str, pairs: Sequence[Pair]) -> None:
    rows = []
    for threshold in THRESHOLDS:
        row = [f"{threshold:.2f}"]
        for guarded in (False, True):
            for same in (True, False):
                of = [pair for pair in pairs if pair.same is same]
                row.append(f"{sum(p.hit(threshold, guarded=guarded) for p in of)}/{len(of)}")
        rows.append(row)
    heads = ["threshold", "hits", "false hits", "hits, guarded", "false hits, guarded"]
    print_table(title, heads, rows)


def print_groups(pairs: Sequence[Pair]) -> None:
    rows = []
    for group in dict.fromkeys(pair.group for pair in pairs):
        of = [pair for pair in pairs if pair.group == group]
        values = [pair.similarity for pair in of]
        figures = (min(values), statistics.median(values), max(values))
        answer = "same" if of[0].same else "different"
        passing = str(sum(pair.passes for pair in of))
        rows.append([group, answer, str(len(of)), *(f"{x:.2f}" for x in figures), passing])
    heads = ["pairs", "answer", "", "least", "median", "most similar", "pass the guard"]
    print_table("Similarity by kind", heads, rows)
    for pair in sorted(pairs, key=lambda pair: -pair.similarity):
        if pair.passes and not pair.same:
            print(f"  passes, {pair.similarity:.2f} [{pair.group}]: {pair.one} | {pair.other}")


async def main() -> None:
    warnings.simplefilter("ignore")
    async with served() as (name, model, url):
        for title, file in SETS.items():
            pairs = load(file)
            await measure(pairs, model, url)
            print_thresholds(f"{len(pairs)} pairs, {title}; {name}", pairs)
            print_groups(pairs)
    pairs = [pair for file in SETS.values() for pair in load(file)]
    started = time.perf_counter()
    for pair in pairs:
        difference(pair.one, pair.other)
    print(f"\nThe guard: {(time.perf_counter() - started) / len(pairs) * 1e6:.0f} µs a pair")


if __name__ == "__main__":
    asyncio.run(main())
