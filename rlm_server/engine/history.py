"""The history: one loop's conversation with its model, cheap and within the model's window.

An output that was too long to be shown whole is shown at some length once, and named in a line or
two from then on, since all of it is in the REPL. That changes only the message before the newest,
so that whatever stands before it stays as the provider has it cached. Where the conversation
outgrows its room all the same, its older turns are summed up in one step, without asking a model:
what is summed up is in the REPL's ``history``.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from rlm_server.engine.reply import ReplyParser
from rlm_server.models import Message
from rlm_server.text import clip

WINDOW = 32_768
"""Tokens, where a model's window is unknown."""

CHARACTERS_A_TOKEN = 3
"""Of the window; common text has about 4, code and other scripts fewer."""

SHARE = 0.7
"""Of the window that the conversation may take; the rest is for the next reply."""

ROOM = 100_000
"""Characters that turns take, however large the window, since each is paid for every time."""

LEAST_ROOM = 6_000
"""Characters that turns may take, however small the window."""

KEPT = 4
"""One part in so many of the room is kept as it is, when the rest is summed up."""

LINE = 100
"""Characters of a reply's prose, and of what it was told, that a summary repeats."""


@dataclass(frozen=True)
class Feedback:
    """What the model is told after a reply: now, and from the next turn on."""

    now: str
    later: str

    def for_now(self, text: str) -> Feedback:
        """The same, with a paragraph that is not repeated later."""
        return Feedback(f"{self.now}\n\n{text}", self.later)

    def and_also(self, text: str) -> Feedback:
        """The same, with a paragraph more."""
        return Feedback(f"{self.now}\n\n{text}", f"{self.later}\n\n{text}")


@dataclass
class _Turn:
    number: int
    reply: str
    told: Feedback

    @property
    def size(self) -> int:
        return len(self.reply) + len(self.told.later)


class History:
    """The messages of one loop, to which turns are added and of which old ones are summed up."""

    def __init__(self, opening: list[Message], window: int | None, room: int = ROOM) -> None:
        """Begin with the ``opening``; ``window`` is the model's, in tokens, None where unknown.

        ``room`` is what turns may take at most, in characters.
        """
        self._opening = list(opening)
        share = int((window or WINDOW) * CHARACTERS_A_TOKEN * SHARE)
        fixed = sum(len(message["content"]) for message in opening)
        self._room = max(LEAST_ROOM, min(room, share - fixed))
        self._turns: list[_Turn] = []
        self._summary: list[str] = []
        self._forgotten = 0
        self._count = 0

    @property
    def messages(self) -> list[Message]:
        """What the model is asked with now."""
        *before, first = self._opening
        messages: list[Message] = [*before, {**first, "content": first["content"] + self._told()}]
        for turn in self._turns:
            told = turn.told.now if turn is self._turns[-1] else turn.told.later
            messages.append({"role": "assistant", "content": turn.reply})
            messages.append({"role": "user", "content": told})
        return messages

    def digest(self) -> str:
        """A hash of how it begins."""
        return hashlib.sha256(msgspec.json.encode(self._opening)).hexdigest()[:16]

    def add(self, reply: str, told: Feedback) -> str:
        """Add a reply and what the model is told of it.

        Returns a sentence for the person at the screen where older turns were summed up for it,
        else an empty string.
        """
        self._count += 1
        # A model that repeats itself without end must not fill its own window.
        reply = clip(reply or "(empty reply)", self._room // 2)
        self._turns.append(_Turn(self._count, reply, told))
        size = sum(turn.size for turn in self._turns) + len(self._told())
        # The newest is shown at length for once, and counted so.
        if size + len(told.now) - len(told.later) <= self._room:
            return ""
        return self._compact(size)

    def say(self, text: str) -> None:
        """Tell the model something more with the next request, and keep it."""
        if self._turns:
            self._turns[-1].told = self._turns[-1].told.and_also(text)
        else:
            first = self._opening[-1]
            self._opening[-1] = {**first, "content": f"{first['content']}\n\n{text}"}

    def _compact(self, size: int) -> str:
        """Sum up all turns but the newest; in a big step, so that it is seldom done."""
        keep, kept = 1, self._turns[-1].size
        for turn in reversed(self._turns[:-1]):
            if kept + turn.size > self._room // KEPT:
                break
            kept += turn.size
            keep += 1
        old, self._turns = self._turns[:-keep], self._turns[-keep:]
        if not old:
            return ""
        self._summary += [_line(turn) for turn in old]
        while len(self._summary) > 1 and sum(map(len, self._summary)) > self._room // KEPT:
            self._forgotten += 1
            del self._summary[0]
        now = kept + len(self._told())
        return (
            f"The model's replies before number {self._turns[0].number} are summed up for it: "
            f"{size:,} characters of conversation are {now:,} now. `history` in its REPL has them."
        )

    def _told(self) -> str:
        """What stands for the turns that were summed up, at the end of the first message."""
        if not self._summary:
            return ""
        lines = list(self._summary)
        if self._forgotten:
            lines.insert(0, f"- replies 1 to {self._forgotten}: see `history`")
        return (
            "\n\nYour earlier replies are summed up here. Their variables are still in the REPL "
            "(`SHOW_VARS()`), and `history` lists their cells: .number, .reply, .code, .output, "
            ".error.\n" + "\n".join(lines)
        )


def _line(turn: _Turn) -> str:
    """A turn in a line: why, what was made, and how what it printed began."""
    parser = ReplyParser()
    prose = "".join(p.text for p in parser.feed(turn.reply) + parser.close() if p.part == "prose")
    parts = [_short(prose) or "(no words)"]
    if names := list(dict.fromkeys(name for code in parser.cells for name in bound_names(code))):
        parts.append("made " + ", ".join(names[:12]))
    parts.append(_short(turn.told.later))
    return f"- reply {turn.number}: " + " | ".join(parts)


def _short(text: str) -> str:
    words = " ".join(text[: 4 * LINE].split())
    return words if len(words) <= LINE else words[: LINE - 1] + "…"


def bound_names(code: str) -> Iterator[str]:
    """Yield the names that a cell binds for later ones, in order; none where it doesn't parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            waiting: list[ast.AST] = [ast.parse(code)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, (ast.Lambda, ast.comprehension)):
            waiting[:0] = ast.iter_child_nodes(node)
