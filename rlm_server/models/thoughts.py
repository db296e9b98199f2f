"""Thinking aloud in the reply itself, between tags, where a server does not take it out."""

from __future__ import annotations

import re
from collections.abc import Callable

from rlm_server.models.calls import Part

_BEGINS = re.compile(r"\s*<(think|thinking)>")
_UNDECIDED = re.compile(r"\s{0,200}(<[a-z]{0,8})?")
_ENDS = re.compile(r".*?^[ \t]*</think(?:ing)?>[ \t]*$", re.DOTALL | re.MULTILINE)
_LONGEST = len("</thinking>")


def without_thoughts(text: str, *, begun: bool = False) -> str:
    """A reply without the thoughts that it begins with.

    With ``begun`` they may have begun before it: some prompt templates write the first tag.
    """
    if opening := _BEGINS.match(text):
        return text[opening.end() :].partition(f"</{opening[1]}>")[2].lstrip()
    if begun and "</think" in text and (over := _ENDS.match(text)):
        return text[over.end() :].lstrip()
    return text


class Thoughts:
    """Tells the pieces of a streamed reply that are thoughts; what remains is the reply without."""

    def __init__(self, delta: Callable[[Part, str], None]) -> None:
        """``delta`` is handed the pieces."""
        self._delta = delta
        self._held = ""
        self._closing = ""
        self._blank = False
        self._plain = False

    def delta(self, part: Part, text: str) -> None:
        """Take a piece; what may be a part of a tag waits for the next."""
        if self._plain or part != "text":
            self._delta(part, text)
            return
        self._held += text
        if not self._closing and not self._blank:
            self._begin()
        if self._closing:
            self._think()
        if self._blank and (rest := self._held.lstrip()):
            self._pass_on(rest)

    def end(self) -> None:
        """The reply is over: nothing waits any more."""
        if self._held and not self._blank:
            self._delta("reasoning" if self._closing else "text", self._held)
        self._held = ""

    def _begin(self) -> None:
        if opening := _BEGINS.match(self._held):
            self._closing = f"</{opening[1]}>"
            self._held = self._held[opening.end() :]
        elif not _UNDECIDED.fullmatch(self._held):
            self._pass_on(self._held)

    def _think(self) -> None:
        thought, tag, rest = self._held.partition(self._closing)
        if tag:
            self._closing, self._blank, self._held = "", True, rest
        else:
            keep = len(thought) - _LONGEST
            thought, self._held = thought[: max(0, keep)], thought[max(0, keep) :]
        if thought:
            self._delta("reasoning", thought)

    def _pass_on(self, text: str) -> None:
        self._plain, self._held = True, ""
        self._delta("text", text)
