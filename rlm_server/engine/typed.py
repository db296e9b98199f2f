"""Typed answers: an answer that has to fit a JSON Schema is read, checked, and asked for again."""

from __future__ import annotations

import json
from typing import Any

from rlm_server.errors import SchemaError
from rlm_server.sandbox.json_reply import read_json
from rlm_server.sandbox.schema import check_schema, problems

NAMED = 10
"""Problems of one answer that are named."""

MOST_REFUSALS = 5
"""Answers that may be refused, one after the other, before the run is given up."""


class AnswerType:
    """What the answer of one run has to be."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raises SchemaError for a schema that can't be checked."""
        try:
            check_schema(schema)
        except ValueError as error:
            raise SchemaError(
                f"The schema of the answer can't be used: {error}.",
                cure="Use the keywords that the manual lists under Typed answers.",
            ) from error
        self._schema = schema
        self._refusals = 0

    def task(self) -> str:
        """What the model is told beside its question."""
        schema = json.dumps(self._schema, ensure_ascii=False)
        return (
            'The answer has to be typed: set answer["content"] to a dict, list, number or str that '
            f"fits this JSON Schema. It is checked.\n{schema}"
        )

    def task_in_text(self) -> str:
        """What a model is told that answers in text, without code."""
        schema = json.dumps(self._schema, ensure_ascii=False)
        return (
            "Reply with JSON only, without any other word, that fits this JSON Schema; it is "
            f"checked.\n{schema}"
        )

    def read(self, answer: str | None) -> tuple[Any, list[str]]:
        """The value of an answer as the REPL gave it, and what is wrong with it, if anything.

        The value is what the text is as JSON, bare or fenced, or else the text itself.
        """
        if answer is None:
            return None, self._problems(None)
        try:
            value = read_json(answer, among_words=False)
        except (ValueError, RecursionError):
            return answer, self._problems(answer)
        wrong = self._problems(value)
        if wrong and not self._problems(answer):
            return answer, []
        return value, wrong

    def refuse(self, answer: str | None) -> list[str]:
        """What is wrong with an answer that is ready; nothing where it fits.

        Raises SchemaError once too many were wrong.
        """
        wrong = self.read(answer)[1]
        self._refusals = self._refusals + 1 if wrong else 0
        if self._refusals >= MOST_REFUSALS:
            raise SchemaError(
                f"{self._refusals} answers did not fit the schema; of the last, {wrong[0]}.",
                cure="Ask a stronger model, or for something simpler.",
            )
        return wrong

    def _problems(self, value: Any) -> list[str]:
        found = []
        try:
            for problem in problems(value, self._schema):
                found.append(problem)
                if len(found) == NAMED:
                    break
        except RecursionError:
            found.append("$ is nested too deeply")
        return found


def feedback(wrong: list[str]) -> str:
    """What the model is told of an answer that does not fit."""
    return (
        "The answer does not fit its JSON Schema:\n"
        + "\n".join(f"- {problem}" for problem in wrong)
        + '\nSet answer["content"] to a value that fits, and answer["ready"] = True.'
    )


def feedback_in_text(wrong: list[str]) -> str:
    """The same, for a model that answers in text."""
    return (
        "The reply does not fit the JSON Schema:\n"
        + "\n".join(f"- {problem}" for problem in wrong)
        + "\nReply again, with JSON only that fits."
    )


def as_json(value: Any) -> str:
    """A value as JSON that people can read."""
    return json.dumps(value, ensure_ascii=False, indent=2)
