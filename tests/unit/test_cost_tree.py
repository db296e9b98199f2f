"""Costs in a tree of depth three: exact at every node, whatever becomes of the children."""

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from engine_harness import Played, ScriptedModels, cell, final, prepare
from rlm_server.config import Config
from rlm_server.errors import RefusedError, TransientError
from rlm_server.models import Completion
from rlm_server.protocol import (
    ChildDone,
    ChildStarted,
    ReplyDone,
    SubcallDone,
    SubcallStarted,
    Usage,
)

CONFIG = Config(
    max_depth=4,
    depth_models=["root-1", "root-2", "root-3"],
    depth_sub_models=["sub-1", "sub-2", "sub-3"],
)
PRICES: dict[str, tuple[float | None, float | None]] = {
    "root": (8.0, 32.0), "root-1": (4.0, 16.0), "root-2": (2.0, 8.0), "root-3": (1.0, 4.0),
    "sub": (0.5, 2.0), "sub-1": (0.25, 1.0), "sub-2": (0.125, 0.5), "sub-3": (0.0625, 0.25),
}  # fmt: skip

SCRIPT: dict[str, list[Any]] = {
    "What is in it": [
        cell(
            "context\nllm_query('top')\n"
            "print(rlm_query_batched(['left', 'right', 'broken', 'endless', 'short'],"
            " ['l', 'r', 'b', 'e', 's']))"
        ),
        final(),
    ],
    "left": [
        cell("context\nllm_query_batched(['a', 'b'])\nrlm_query('inner', 'i')"),
        cell("llm_query('c')"),
        final('"left"'),
    ],
    "inner": [cell("context\nrlm_query('deep', 'd')\nrlm_query('deaf', 'd')"), final('"inner"')],
    "deep": [cell("context\nllm_query_batched(['x', 'y', 'z'])"), final('"deep"')],
    "deaf": [TransientError("down")],
    "right": [cell("context\ntry: llm_query('refuse')\nexcept SubcallError: pass"), final('"r"')],
    "broken": [cell("context\nllm_query('before')"), TransientError("the server is down")],
    "endless": [cell("context\nllm_query('first')\nllm_query('never')"), final('"e"')],
    "short": ["prose"] * 30,
}


class Exact(ScriptedModels):
    """Knows by itself what each node has paid, in exact numbers."""

    def __init__(self, played: Played) -> None:
        super().__init__([])
        self.prices = PRICES
        self.cut_off: list[Any] = []
        """The messages of the call that is cancelled."""
        self._played = played

    async def complete(self, name: str, messages: Any, **options: Any) -> Completion:
        done = await super().complete(name, messages, **options)
        # Sizes that differ from call to call, so that no two sums are alike by chance.
        done.usage.prompt_tokens = 100 + len(messages[-1]["content"])
        done.usage.cost = self.cost(name, done.usage)
        return done

    async def _say(self, name: str, messages: Any) -> str:
        asked = messages[1]["content"]
        if name.startswith("sub"):
            if asked == "refuse":
                raise RefusedError("no")
            if asked == "never":
                self.cut_off = messages
                asyncio.get_running_loop().call_soon(self._cancel_the_child)
                await asyncio.Future()
            return "y" * (8 + 4 * len(asked))
        word = next(word for word in SCRIPT if f"Question: {word}" in asked)
        said = SCRIPT[word][sum(message["role"] == "assistant" for message in messages)]
        if isinstance(said, Exception):
            raise said
        return str(said)

    def _cancel_the_child(self) -> None:
        [never] = [e.node for e in self._played.of(SubcallStarted) if e.prompt == "never"]
        assert self._played.run.cancel(never.rpartition(".")[0].rpartition(".")[0])


async def played_tree(tmp_path: Path) -> Played:
    played = prepare(tmp_path, [], config=CONFIG, prices=PRICES, iterations=4)
    models = Exact(played)
    played.models = played.run._models = played.run._calls._models = models  # type: ignore
    played.run._speech._models = models  # type: ignore[assignment]
    await asyncio.wait_for(played.run.start(), 50)
    return played


def cost(model: str, usage: Usage) -> Fraction:
    prompt, completion = (Fraction(price or 0) for price in PRICES[model])
    return (prompt * usage.prompt_tokens + completion * usage.completion_tokens) / 1_000_000


def is_below(node: str, above: str) -> bool:
    return node == above or node.startswith(f"{above}.")


async def test_every_node_of_a_tree_of_depth_three_costs_what_is_below_it(tmp_path: Path) -> None:
    run = await played_tree(tmp_path)
    assert (run.end.status, run.answer) == ("done", "42")
    children = {event.node: event for event in run.of(ChildDone)}
    named = {event.question: event.node for event in run.of(ChildStarted)}
    assert {word: children[node].status for word, node in named.items()} == {
        "left": "done",
        "inner": "done",
        "deep": "done",
        "deaf": "failed",
        "right": "done",
        "broken": "failed",
        "endless": "cancelled",
        "short": "limit",
    }
    assert named["deep"].count(".") == 6
    models = {event.node: event.model for event in run.events if hasattr(event, "model")}
    paid = [event for event in run.events if isinstance(event, ReplyDone | SubcallDone)]
    # A call that was cut off is paid by estimate: 4 characters of its prompt a token.
    system = len(run.models.cut_off[0]["content"])
    cut_off = Usage(prompt_tokens=(system + len("never")) // 4)
    nodes = {**{node: event.usage for node, event in children.items()}, "0": run.end.usage}
    nodes["0.1"] = run.run._ledger.below("0.1")
    for node, usage in nodes.items():
        below = [event for event in paid if is_below(event.node, node)]
        total = sum(cost(models[event.node], event.usage) for event in below)
        tokens = sum(event.usage.prompt_tokens for event in below)
        if is_below(named["endless"], node):
            total, tokens = total + cost("sub-1", cut_off), tokens + cut_off.prompt_tokens
        assert usage.cost == pytest.approx(float(total), rel=1e-12), node
        assert usage.prompt_tokens == tokens, node
        assert usage.completion_tokens == sum(e.usage.completion_tokens for e in below), node
    assert run.end.subcalls == 11 + 8


async def test_an_unknown_price_is_unknown_above_it_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRICES, "sub-3", (None, None))
    run = await played_tree(tmp_path)
    unknown = {event.node for event in run.of(ChildDone) if event.usage.cost is None}
    above = {event.node for event in run.of(ChildStarted) if event.question in ("left", "inner")}
    deep = {event.node for event in run.of(ChildStarted) if event.question == "deep"}
    assert unknown == above | deep
    assert (run.end.status, run.end.usage.cost) == ("done", None)
