"""The functions that call models, as the model's code sees them, and what they return.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar

from .ahead import Ahead
from .channel import AbandonedError, Channel, clean

MAX_PROMPT = 8_000_000
"""Characters."""

_LONGEST_NAME = 200  # characters of a model's

_len, _str, _isinstance = len, str, isinstance
_T = TypeVar("_T")


class SubcallError(Exception):
    """A call to a model failed; ``kind`` is its stable name, ``cure`` says what may help."""

    def __init__(self, message: str, kind: str = "", cure: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.cure = cure


def _awaited(text: _T) -> Generator[None, None, _T]:
    """What awaiting gives, as some models do with every call: it is there already."""
    yield from ()
    return text


class SubcallAnswer(str):
    """A model's answer: a ``str`` that knows what it cost."""

    usage: SimpleNamespace
    model: str
    cached: bool
    __await__ = _awaited


class SubcallFailure(str):
    """Stands in a batch's list for an answer that never came; ``error`` says why."""

    error: SubcallError
    __await__ = _awaited


for _class in (SubcallError, SubcallAnswer, SubcallFailure):
    _class.__module__ = "__main__"  # so that tracebacks and reprs show the bare name


class Calls:
    """``llm_query`` and ``llm_query_batched``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.ahead = Ahead(channel)

    def llm_query(self, prompt: str, model: str | None = None) -> SubcallAnswer:
        """Ask a model; raises SubcallError where that fails."""
        return self.one(plain_call(prompt, model))

    def llm_query_batched(
        self, prompts: Iterable[str], model: str | None = None
    ) -> list[SubcallAnswer | SubcallFailure]:
        """Ask many prompts at once; a failed one gives a SubcallFailure in its place."""
        if _isinstance(prompts, str):
            raise TypeError("llm_query_batched takes a list of prompts; for one, use llm_query")
        return self.many([plain_call(prompt, model) for prompt in prompts])

    def one(self, call: dict[str, Any]) -> SubcallAnswer:
        """Make a call; raises SubcallError where it fails."""
        reply = self._ask([call])[0]
        if reply["error"] is not None:
            raise _error(reply)
        return _answer(reply)

    def many(self, calls: list[dict[str, Any]]) -> list[SubcallAnswer | SubcallFailure]:
        """Make calls at the same time; a failed one gives a SubcallFailure in its place."""
        replies = self._ask(calls)
        return [_answer(r) if r["error"] is None else _failure(r) for r in replies]

    def _ask(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return self.ahead.ask(calls)
        except AbandonedError as ended:
            raise SubcallError(_str(ended), "ended") from None


def plain_call(prompt: Any, model: Any) -> dict[str, Any]:
    """A call of the sub model, as it goes over the channel. Raises TypeError, ValueError."""
    if model is not None and (not _isinstance(model, str) or _len(model) > _LONGEST_NAME):
        raise TypeError("model is the name of a model; put what it shall read into the prompt")
    name = None if model is None else clean(model)
    return {"function": "llm_query", "prompt": checked(prompt), "model": name}


def checked(prompt: object) -> str:
    """A prompt as text; raises ValueError where it is too long to be sent, TypeError for None."""
    if prompt is None:
        raise TypeError("the prompt is None; it has to be a text")
    text: str = prompt if isinstance(prompt, str) else _str(prompt)
    if _len(text) > MAX_PROMPT:
        raise ValueError(
            f"a prompt of {_len(text):,} characters is too long (limit {MAX_PROMPT:,}); "
            "send a slice of the text"
        )
    return clean(_str(text))


def _error(reply: dict[str, Any]) -> SubcallError:
    error = reply["error"]
    text = f"{error['message']} {error['cure']}".strip()
    return SubcallError(text, error["kind"], error["cure"])


def _answer(reply: dict[str, Any]) -> SubcallAnswer:
    answer = SubcallAnswer(reply["text"])
    answer.usage = SimpleNamespace(**reply["usage"])
    answer.model, answer.cached = reply["model"], reply["cached"]
    return answer


def _failure(reply: dict[str, Any]) -> SubcallFailure:
    error = _error(reply)
    failure = SubcallFailure(f"[this call failed: {error}]")
    failure.error = error
    return failure
