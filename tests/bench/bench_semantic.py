"""Hits and false hits of the semantic cache over our pairs, by threshold, with and without guard.

By default the vectors are those of ``ngram_embedder`` (hashed words and parts of words), served
as an OpenAI-compatible endpoint on loopback. To measure a real model::

    RLM_EMBEDDING_MODEL=ollama/all-minilm RLM_EMBEDDING_URL=http://127.0.0.1:11434 make bench
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path

from table import print_table

from ngram_embedder import embeddings
from rlm_server.config import CacheConfig, Config, ModelConfig
from rlm_server.models import Models
from rlm_server.models.cache.guard import difference
from scripted_provider import ScriptedProvider

THRESHOLDS = (0.60, 0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.95, 0.97, 0.99)
PAIRS = Path(__file__).with_name("semantic_pairs.toml")

Pair = tuple[str, bool, str, str]


def load() -> list[Pair]:
    groups = tomllib.loads(PAIRS.read_text())
    return [
        (name, group["same"], one, other)
        for name, group in groups.items()
        for one, other in group["pairs"]
    ]


async def similarities(pairs: Sequence[Pair], model: str, url: str | None) -> list[float]:
    settings = ModelConfig(model=model, base_url=url)
    cache = CacheConfig(semantic=True, embedding_model="e")
    models = Models(Config(discover=False, models={"e": settings}, cache=cache), dict(os.environ))
    assert models.semantic
    texts = sorted({text for _, _, *both in pairs for text in both})
    vectors = {}
    for text in texts:
        numbers = await models.semantic._embedder.embed(text)
        length = sum(number * number for number in numbers) ** 0.5
        vectors[text] = [number / length for number in numbers]
    await models.close()
    return [
        sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))
        for _, _, one, other in pairs
    ]


async def main() -> None:
    warnings.simplefilter("ignore")
    pairs = load()
    model = os.environ.get("RLM_EMBEDDING_MODEL")
    if model:
        scores = await similarities(pairs, model, os.environ.get("RLM_EMBEDDING_URL"))
    else:
        model = "hashed words and parts of words, which know no meaning"
        async with ScriptedProvider(embeddings) as provider:
            scores = await similarities(pairs, "openai/ngrams", provider.url)
    passes = [not difference(one, other) for _, _, one, other in pairs]
    same = [pair[1] for pair in pairs]
    rows = []
    for threshold in THRESHOLDS:
        row = [f"{threshold:.2f}"]
        for guarded in (False, True):
            hit = [
                s >= threshold and (p or not guarded) for s, p in zip(scores, passes, strict=True)
            ]
            right = sum(h and w for h, w in zip(hit, same, strict=True))
            wrong = sum(h and not w for h, w in zip(hit, same, strict=True))
            row += [f"{right}/{sum(same)}", f"{wrong}/{len(same) - sum(same)}"]
        rows.append(row)
    heads = ["threshold", "hits", "false hits", "hits, guarded", "false hits, guarded"]
    print_table(f"{len(pairs)} pairs, {model}", heads, rows)

    rows = []
    for group in dict.fromkeys(pair[0] for pair in pairs):
        of = [i for i, pair in enumerate(pairs) if pair[0] == group]
        values = [scores[i] for i in of]
        rows.append(
            [
                group,
                "same" if same[of[0]] else "different",
                str(len(of)),
                f"{min(values):.2f}",
                f"{statistics.median(values):.2f}",
                f"{max(values):.2f}",
                str(sum(passes[i] for i in of)),
            ]
        )
    heads = ["pairs", "answer", "", "least", "median", "most similar", "pass the guard"]
    print_table("Similarity by kind", heads, rows)
    for i, (group, alike, one, other) in enumerate(pairs):
        if passes[i] and not alike:
            print(f"  passes, {scores[i]:.2f} [{group}]: {one} | {other}")

    started = time.perf_counter()
    for _, _, one, other in pairs:
        difference(one, other)
    print(f"\nThe guard: {(time.perf_counter() - started) / len(pairs) * 1e6:.0f} µs a pair")


if __name__ == "__main__":
    asyncio.run(main())
