"""Thinking aloud in a reply is told as such, and is no part of the reply."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.config import Config, ModelConfig
from rlm_server.errors import ModelError
from rlm_server.models import Models
from rlm_server.models.thoughts import Thoughts, without_thoughts
from scripted_provider import Reply, ScriptedProvider

pytestmark = [  # of litellm's own
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

QUESTION = [{"role": "user", "content": "Why?"}]
TAGS = ["<think>", "</think>", "<thinking>", "</thinking>", "<", "think", ">", "\n", " ", "So."]


class Ear:
    def __init__(self) -> None:
        self.heard = {"text": "", "reasoning": ""}

    def delta(self, part: str, text: str) -> None:
        self.heard[part] += text

    def restarted(self, reason: str) -> None:
        raise AssertionError(reason)

    def notice(self, text: str) -> None:
        raise AssertionError(text)


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join), st.data())
def test_pieces_joined_are_the_reply_without_thoughts(said: str, data: st.DataObject) -> None:
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8))), len(said)]
    ear = Ear()
    thoughts = Thoughts(ear.delta)
    for start, end in itertools.pairwise(edges):
        thoughts.delta("text", said[start:end])
    thoughts.end()
    assert ear.heard["text"] == without_thoughts(said)
    assert ear.heard["reasoning"] in said


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("transport", ["http", "litellm"])
@pytest.mark.parametrize(
    ("said", "text", "thought"),
    [
        ("<think>\nHm, 41?\n</think>\n\nIt is 42.", "It is 42.", "\nHm, 41?\n"),
        ("It says <think>.", "It says <think>.", ""),
        ("  <b>42</b>", "  <b>42</b>", ""),
    ],
)
async def test_thoughts_are_no_part_of_a_reply(
    transport: str, streamed: bool, said: str, text: str, thought: str
) -> None:
    ear = Ear() if streamed else None
    async with ScriptedProvider([Reply(said, chunk=3)]) as provider:
        models = models_of(provider.url, transport)
        completion = await models.complete("m", QUESTION, listener=ear)
        await models.close()
    assert completion.text.lstrip() == text.lstrip()
    if ear is not None:
        assert ear.heard == {"text": text, "reasoning": thought}


async def test_of_a_whole_reply_thoughts_may_have_begun_in_the_prompt() -> None:
    async with ScriptedProvider(["Hm, 41?\n</think>\n\nIt is 42."]) as provider:
        models = models_of(provider.url)
        completion = await models.complete("m", QUESTION)
        await models.close()
    assert completion.text == "It is 42."


async def test_thoughts_alone_are_an_error_and_are_paid_for() -> None:
    reply = Reply("<think>" + "Hm, " * 400, finish_reason="length", usage={})
    async with ScriptedProvider([reply]) as provider:
        models = models_of(provider.url)
        with pytest.raises(ModelError, match="mostly by thinking") as caught:
            await models.complete("m", QUESTION)
        await models.close()
    assert caught.value.used is not None
    assert caught.value.used.completion_tokens >= 400


def models_of(url: str, transport: str = "http") -> Models:
    settings = ModelConfig(model="hosted_vllm/x", base_url=url, retries=0, transport=transport)
    return Models(Config(discover=False, models={"m": settings}), {"KEY": "sk-secret"})
