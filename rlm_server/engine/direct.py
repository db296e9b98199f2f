"""Direct answers: a text that fits comfortably goes straight to the model, without code."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_server.context.corpus import Corpus
from rlm_server.engine import typed
from rlm_server.engine.calls import Calls
from rlm_server.engine.coverage import Coverage
from rlm_server.engine.emitter import Emitter
from rlm_server.engine.history import CHARACTERS_A_TOKEN, SHARE, WINDOW
from rlm_server.engine.ledger import Ledger, LimitReached
from rlm_server.engine.loop import Loop
from rlm_server.engine.prompt import prompt_file
from rlm_server.engine.typed import AnswerType
from rlm_server.models import Message
from rlm_server.protocol import IterationStarted, Notice

COMFORTABLY = 0.5
"""The part of the room in the window that a text may take which goes to the model by itself."""

DECLINED = "REPL"
"""What the model says where it had rather write code."""

TRIES = 2
"""Replies that may fail to fit the answer's type before code is tried."""


class Direct:
    """The way of one run's question that needs no code."""

    def __init__(
        self,
        emitter: Emitter,
        calls: Calls,
        ledger: Ledger,
        coverage: Coverage,
        *,
        wanted: bool | None,
        before: bool | None,
        window: int | None,
        answer_type: AnswerType | None,
    ) -> None:
        """``wanted`` is what the question says of it, ``window`` the model's in tokens.

        ``before`` is how the question was answered before it was resumed, None for a new one.
        """
        self._emitter = emitter
        self._calls = calls
        self._ledger = ledger
        self._coverage = coverage
        self._wanted = wanted
        self._before = before
        self._room = int((window or WINDOW) * SHARE)
        self._type = answer_type

    async def answer(self, loop: Loop, question: str, corpus: Corpus) -> str | None:
        """Answer without code, in iterations of ``loop``; None where code is the better way.

        Raises LimitReached, ModelError.
        """
        if self._before is False or self._calls.gives(f"{loop.node}.{loop.iterations + 1}"):
            return None
        if self._before is None:
            why = self._why(loop, corpus)
            if not why:
                return None
            size = f"The text, about {corpus.bytes // 4:,} tokens,"
            self._tell("info", f"{size} goes straight to the model: {why}.")
        self._coverage.read(corpus, [(0, corpus.characters)])
        messages: list[Message] = [
            {"role": "system", "content": prompt_file("direct")},
            {"role": "user", "content": self._asked(question, corpus)},
        ]
        for _ in range(TRIES):
            text = (await self._ask(loop, messages)).strip()
            if text.strip("`'\"*. ") in (DECLINED, ""):
                self._tell("info", "The model had rather look at the text with code.")
                return None
            loop.last_prose = text
            wrong = self._type.read(text)[1] if self._type else []
            if not wrong:
                loop.best = text
                return text
            self._tell("warning", f"The answer does not fit the schema: {wrong[0]}.")
            messages.append({"role": "assistant", "content": text})
            messages.append({"role": "user", "content": typed.feedback_in_text(wrong)})
        return None

    def _why(self, loop: Loop, corpus: Corpus) -> str:
        """Why the text goes straight to the model; empty where it does not."""
        if self._wanted is False:
            return ""
        room = self._room * CHARACTERS_A_TOKEN
        if self._wanted:
            if corpus.characters + _numbers(corpus) <= room:
                return "the question says so"
            self._tell(
                "warning",
                f"The text is too long for a direct answer: the model takes about {self._room:,} "
                "tokens. It is looked at with code.",
            )
            return ""
        most = loop.profile.direct_tokens
        comfortable = corpus.bytes <= 4 * most and corpus.characters <= room * COMFORTABLY
        if not comfortable or corpus.characters + _numbers(corpus) > room:
            return ""
        return f"the profile {loop.profile.name} does so up to {most:,}"

    async def _ask(self, loop: Loop, messages: list[Message]) -> str:
        limit = self._ledger.limits.iterations
        if loop.iterations >= limit:
            raise LimitReached(f"the limit of {limit} iterations is reached")
        loop.iterations += 1
        self._calls.iteration = loop.iterations
        self._emitter.emit(IterationStarted, loop.current, iteration=loop.iterations, direct=True)
        self._ledger.check_time()
        return (await self._calls.root(loop.current, loop.model, messages))[0]

    def _asked(self, question: str, corpus: Corpus) -> str:
        task = f"\n\n{self._type.task_in_text()}" if self._type else ""
        return f"Question: {question}{task}\n\nThe text:\n<<<\n{numbered(corpus)}\n>>>"

    def _tell(self, level: str, text: str) -> None:
        self._emitter.emit(Notice, level=level, text=text)


def numbered(corpus: Corpus) -> str:
    """All documents with their paths, each line with its number, as an answer is to name them."""
    return "\n".join(_lines(corpus))


def _lines(corpus: Corpus) -> Iterator[str]:
    for document in corpus.documents:
        yield f"===== {document.path} ====="
        lines = corpus.slice(document.start, document.end).removesuffix("\n").split("\n")
        for number, line in enumerate(lines, document.first_line):
            yield f"{number}: {line}"


def _numbers(corpus: Corpus) -> int:
    """Characters that paths and line numbers add, at most."""
    lines = sum(
        corpus.line_at(document, document.end) - document.first_line + 1
        for document in corpus.documents
    )
    return 9 * lines + sum(len(document.path) + 13 for document in corpus.documents)
