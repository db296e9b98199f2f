"""The program of a past run: its replies and what they asked, given to a run in place of models.

A rerun takes all of it, about text that may have changed; a fork one reply that a person has
edited. What a program gives is paid for by nobody.
"""

from __future__ import annotations

import ast
import warnings
from collections import deque

from rlm_server.runs.recorded import PastCall, Record
from rlm_server.sandbox import CellResult
from rlm_server.sandbox.clip import Clip

CHANGED = "What the code prints has changed, and the answer was written by hand."
FAILED = "The code fails on the text as it is now."


class Program:
    """Replies by node, and answers by what was asked."""

    def __init__(self, replies: dict[str, str], record: Record | None = None) -> None:
        """``record`` is the run whose sub-calls need not be paid again; none for a fork."""
        self._replies = replies
        self._record = record
        self._changed = False
        self._answers: dict[str, deque[PastCall]] = {}
        for call in record.calls.values() if record else ():
            done = call.done
            if done is not None and done.error is None and done.status in ("ok", "done"):
                self._answers.setdefault(call.name, deque()).append(call)

    @classmethod
    def of(cls, record: Record) -> Program:
        """The whole program of a run; child runs and direct answers have none of their own."""
        replies = {
            node: iteration.reply.text
            for node, iteration in record.iterations.items()
            if node.count(".") == 1 and iteration.reply is not None and not iteration.direct
        }
        return cls(replies, record)

    def reply(self, node: str) -> str | None:
        """The reply for an iteration; None where the model has to be asked."""
        return self._replies.get(node)

    def by_person(self, node: str) -> bool:
        """Whether a person has written the code of an iteration."""
        return self._record is None and node in self._replies

    def doubt(self, node: str, code: list[str]) -> str:
        """Why a given reply can't be taken, if it can't: then no later one is given either."""
        if self._changed and any(answers_by_hand(cell) for cell in code):
            self._replies.clear()
            return CHANGED
        return ""

    def ran(self, node: str, number: int, result: CellResult, show: int) -> str:
        """Take note of a cell that has run; why the program ends with it, if it does.

        ``show`` is how many characters of its output a model is shown.
        """
        past = self._past(node, number)
        if past is None:
            return ""
        shown = Clip(show)
        for piece in self._output(node, number):
            shown.add(piece)
        self._changed = self._changed or result.output != shown.text()
        if result.status == "ok" or past == result.status or not self._replies:
            return ""
        self._replies.clear()
        return FAILED

    def answer(self, name: str) -> PastCall | None:
        """The recorded answer to what is asked; of several to the same, each in turn."""
        waiting = self._answers.get(name)
        if not waiting:
            return None
        return waiting.popleft() if len(waiting) > 1 else waiting[0]

    def _output(self, node: str, number: int) -> list[str]:
        """What a recorded cell printed, in pieces."""
        iteration = self._record.iterations.get(node) if self._record else None
        cell = iteration.cells.get(number) if iteration else None
        return [output.text for output in cell.printed] if cell else []

    def _past(self, node: str, number: int) -> str | None:
        iteration = self._record.iterations.get(node) if self._record else None
        cell = iteration.cells.get(number) if iteration else None
        return cell.done.status if cell is not None and cell.done is not None else None


def answers_by_hand(code: str) -> bool:
    """Whether a cell sets an answer that stands in its code, instead of making it of variables."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(_constant(value) for node in ast.walk(tree) for value in _answers(node))


def _answers(node: ast.AST) -> list[ast.expr]:
    """The values that a statement gives as the answer."""
    if isinstance(node, ast.Call):
        name = node.func
        if isinstance(name, ast.Name) and name.id == "FINAL":
            return node.args[:1]
        if isinstance(name, ast.Attribute) and _is_answer(name.value):
            return [keyword.value for keyword in node.keywords if keyword.arg == "content"]
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if _is_answer(target) or (
                isinstance(target, ast.Subscript) and _is_answer(target.value)
            ):
                return [node.value]
    return []


def _is_answer(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "answer"


def _constant(value: ast.expr) -> bool:
    """Whether a value is a text of its own; also one in a dict that is the whole answer."""
    if isinstance(value, ast.Dict):
        return any(_constant(item) for item in value.values)
    texts = [n for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return bool(texts) and not any(isinstance(n, ast.Name) for n in ast.walk(value))
