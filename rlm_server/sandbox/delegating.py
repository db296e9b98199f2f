"""``rlm_query``: has a question answered by a child run, over a part of the context.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from .asking import Asking
from .channel import Channel
from .mapped_text import Context
from .reading import Reading
from .subcalls import SubcallAnswer, SubcallFailure, checked, plain_call


class Delegating(Asking):
    """The calls of the model's code, child runs among them."""

    def __init__(self, channel: Channel, context: Context, reading: Reading) -> None:
        super().__init__(channel)
        self._context = context
        self._reading = reading

    def rlm_query(
        self, question: str, context: Any = None, model: str | None = None
    ) -> SubcallAnswer:
        """Have a question answered by a child run, which has a REPL of its own over ``context``.

        That is a document, consecutive documents, a part of the context, or another text; the
        default is the whole context. Raises SubcallError where that fails.
        """
        return self.one(self._call(question, context, model))

    def rlm_query_batched(
        self,
        questions: Iterable[Any],
        contexts: Iterable[Any] | None = None,
        model: str | None = None,
    ) -> list[SubcallAnswer | SubcallFailure]:
        """Start a child run for each question, over the context at the same place of ``contexts``.

        A failed one gives a SubcallFailure in its place.
        """
        if isinstance(questions, str):
            raise TypeError("rlm_query_batched takes a list of questions; for one, use rlm_query")
        asked = list(questions)
        given = [None] * len(asked) if contexts is None else list(contexts)
        if len(given) != len(asked):
            raise ValueError(f"{len(asked)} questions but {len(given)} contexts")
        return self.many([self._call(q, c, model) for q, c in zip(asked, given, strict=True)])

    def plain_call(self, prompt: Any, model: Any = None, schema: Any = None) -> dict[str, Any]:
        """The call that ``llm_query`` makes first when it is called so; raises ValueError."""
        return self._held(super().plain_call(prompt, model, schema))

    def _ask(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make calls, each with what it holds of the context."""
        return super()._ask([self._held(call) for call in calls])

    def _held(self, call: dict[str, Any]) -> dict[str, Any]:
        held = self._reading.held_by(call.get("text") or call["prompt"])
        return {**call, "holds": held}

    def _call(self, question: Any, context: Any, model: Any) -> dict[str, Any]:
        call = {**plain_call(question, model), "function": "rlm_query"}
        if context is None or context is self._context:
            return call
        if isinstance(context, str):
            return {**call, **self._place(context)}
        if isinstance(context, Sequence):
            return {**call, "span": self._consecutive(context)}
        raise TypeError("the context of a child run is a document, documents, or a text")

    def _place(self, text: str) -> dict[str, Any]:
        """Where a text stands in the context, so that nothing is copied; else the text itself."""
        start = getattr(text, "start", -1)
        if not self._stands_at(text, start):  # it was made of another text, or knows no place
            start = self._context.find(text) if text else -1
        if start >= 0:
            return {"span": [start, start + len(text)]}
        return {"text": checked(text)}

    def _stands_at(self, text: str, start: int) -> bool:
        return start >= 0 and self._context.startswith(text, start)

    def _consecutive(self, documents: Sequence[Any]) -> list[int]:
        """The part of the context that these documents make; they must stand side by side."""
        if not documents:
            raise ValueError("the list of documents for a child run is empty")
        items = sorted(documents, key=lambda document: getattr(document, "start", -1))
        if not all(self._stands_at(item, getattr(item, "start", -1)) for item in items):
            raise ValueError(
                "the documents for a child run are not the context's; join their texts"
            )
        starts = [entry["start"] for entry in self._context.documents.entries()]
        numbers = [bisect_right(starts, item.start) for item in items]
        if any(later - earlier > 1 for earlier, later in pairwise(numbers)):
            raise ValueError(
                "the documents for a child run must be consecutive; start a child for each group, "
                "or join their texts"
            )
        return [items[0].start, items[-1].start + len(items[-1])]
