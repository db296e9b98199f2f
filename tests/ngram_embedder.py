"""A deterministic stand-in for an embedding model: hashed words and letters, served as OpenAI does.

It hears that texts share words and parts of words, and nothing of what they mean; so it is good
for tests, and an honest lower bound in a benchmark.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable

from scripted_provider import Reply, Request

DIMENSIONS = 384
LETTERS = 4
"""Letters in a part of a word."""


def embed(text: str) -> list[float]:
    """A vector of length one."""
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        marked = f"<{word}>"
        parts = [marked[at : at + LETTERS] for at in range(max(1, len(marked) - LETTERS + 1))]
        weight = 1.0 if len(word) > 3 else 0.4  # short words say less
        for part, share in ((word, 1.0), *((part, 1.0 / len(parts)) for part in parts)):
            hashed = zlib.crc32(part.encode())
            sign = 1.0 if hashed & 1 else -1.0
            vector[(hashed >> 1) % DIMENSIONS] += sign * weight * share
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return [number / length for number in vector]


def embeddings(request: Request, embed: Callable[[str], list[float]] = embed) -> Reply:
    """What an embeddings endpoint answers: Ollama's, or one that is compatible with OpenAI's."""
    texts = request.body["input"]
    vectors = [embed(text) for text in ([texts] if isinstance(texts, str) else texts)]
    model = request.body["model"]
    if request.path.endswith("/api/embed"):
        answer = {"model": model, "embeddings": vectors, "prompt_eval_count": 1}
    else:
        rows = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "data": rows, "model": model, "usage": usage}
    return Reply(body=json.dumps(answer).encode())
