"""``llm_query`` and ``llm_query_batched`` with ``schema``: JSON that was checked, as values.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .json_reply import read_json
from .schema import check_schema, problems
from .subcalls import Calls, SubcallError, SubcallFailure, plain_call

_SHOWN = 4000  # characters of a wrong reply that are shown again
_NAMED = 10  # problems that are named


class Asking(Calls):
    """The calls of the model's code, with and without a schema."""

    def llm_query(self, prompt: str, model: str | None = None, schema: Any = None) -> Any:
        """Ask a model and return its answer, a ``str``; raises SubcallError where that fails.

        With a ``schema`` (JSON Schema, a dict) the answer is asked for as JSON, checked, asked
        for once more where it does not fit, and returned as dicts, lists and so on.
        """
        if schema is None:
            return super().llm_query(prompt, model)
        value = self._checked([prompt], model, schema)[0]
        if isinstance(value, SubcallFailure):
            raise value.error
        return value

    def llm_query_batched(
        self, prompts: Iterable[str], model: str | None = None, schema: Any = None
    ) -> list[Any]:
        """Ask many prompts at once; a failed one gives a SubcallFailure in its place.

        With a ``schema`` each answer is a checked value, as for ``llm_query``.
        """
        if schema is None or isinstance(prompts, str):
            return super().llm_query_batched(prompts, model)
        return self._checked(list(prompts), model, schema)

    def plain_call(self, prompt: Any, model: Any = None, schema: Any = None) -> dict[str, Any]:
        """The call that ``llm_query`` makes first when it is called so; raises ValueError."""
        if schema is not None:
            check_schema(schema)
            prompt = _with_schema(prompt, schema)
        return plain_call(prompt, model)

    def _checked(self, prompts: list[str], model: str | None, schema: Any) -> list[Any]:
        check_schema(schema)
        asked = [_with_schema(prompt, schema) for prompt in prompts]
        replies = super().llm_query_batched(asked, model)
        values = [_value(reply, schema) for reply in replies]
        again = [n for n, value in enumerate(values) if isinstance(value, _Wrong)]
        repeated = [_once_more(asked[n], values[n]) for n in again]
        if again:
            replies = super().llm_query_batched(repeated, model)
            for number, reply in zip(again, replies, strict=True):
                values[number] = _value(reply, schema)
        return [_failure(value) if isinstance(value, _Wrong) else value for value in values]


class _Wrong:
    """A reply that does not fit, and why."""

    def __init__(self, reply: str, why: list[str]) -> None:
        self.reply = reply
        self.why = why


def _with_schema(prompt: str, schema: Any) -> str:
    return (
        f"{prompt}\n\nReply with JSON only, without any other word, that fits this JSON Schema:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )


def _once_more(asked: str, wrong: _Wrong) -> str:
    return (
        f"{asked}\n\nYour last reply to this was:\n{wrong.reply[:_SHOWN]}\n\n"
        "It does not fit:\n"
        + "\n".join(f"- {problem}" for problem in wrong.why)
        + "\n\nReply again, with JSON only that fits."
    )


def _value(reply: str, schema: Any) -> Any:
    if isinstance(reply, SubcallFailure):
        return reply
    try:
        value = read_json(reply)
    except ValueError as error:
        return _Wrong(reply, [str(error)])
    why = list(problems(value, schema))
    return _Wrong(reply, why[:_NAMED]) if why else value


def _failure(wrong: _Wrong) -> SubcallFailure:
    """What stands in for an answer that did not fit twice."""
    error = SubcallError(f"the reply does not fit the schema: {'; '.join(wrong.why)}", "schema")
    failure = SubcallFailure(f"[this call failed: {error}]")
    failure.error = error
    return failure
