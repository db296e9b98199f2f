"""Accepting: whether an answer that the model calls ready is taken, and what it is told if not."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import NamedTuple

from rlm_server.engine import prompt, typed
from rlm_server.engine.typed import AnswerType

READING = frozenset(("context", "grep", "search", "cite", "rlm_query", "rlm_query_batched"))
"""Names in the REPL by which a cell reads the context."""


class Refusal(NamedTuple):
    """Why an answer is not taken."""

    notice: str
    """For the person at the screen."""
    told: str
    """For the model."""


class Acceptance:
    """The rules for the answers of one loop."""

    def __init__(self, answer_type: AnswerType | None = None) -> None:
        self._type = answer_type
        self._refused_unread = self._refused_empty = False

    def refuse(self, iteration: int, ran: Sequence[str], answer: str | None) -> Refusal | None:
        """Why the answer that a reply has made ready is not taken; None where it is.

        ``ran`` is the code of it that did. Raises SchemaError once too many answers did not fit.
        """
        if iteration == 1 and not self._refused_unread and not any(map(_reads_context, ran)):
            self._refused_unread = True
            return Refusal("An answer that read nothing of the context was refused.", prompt.UNREAD)
        if not self._type and not self._refused_empty and not (answer or "").strip():
            self._refused_empty = True
            return Refusal("An answer that was empty was refused.", prompt.EMPTY)
        if self._type and (wrong := self._type.refuse(answer)):
            notice = f"An answer was refused, since it does not fit the schema: {wrong[0]}."
            return Refusal(notice, typed.feedback(wrong))
        return None


def _reads_context(code: str) -> bool:
    """Whether a cell names the context, or a function that looks through it."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Name) and node.id in READING for node in ast.walk(tree))
