"""Keeps the head and the tail of a text that may be long, and says how long it was."""

from __future__ import annotations

_MARK = 80  # characters that the note in the middle may take


class Clip:
    """Collects text; never holds more than a few times the ``limit`` characters it gives back."""

    def __init__(self, limit: int) -> None:
        self._head_room = limit * 2 // 3
        self._tail_room = max(0, limit - self._head_room - _MARK)
        self.limit = limit
        """Characters that are given back."""
        self._head = ""
        self._rest: list[str] = []
        self._rest_size = 0
        self.characters = 0
        """Characters added in all."""

    def add(self, text: str) -> None:
        """Add text."""
        self.characters += len(text)
        room = self.limit - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if text:
            self._rest.append(text)
            self._rest_size += len(text)
            if self._rest_size > 4 * (self.limit + len(text)):
                self._rest = ["".join(self._rest)[-self.limit :]]
                self._rest_size = len(self._rest[0])

    def text(self) -> str:
        """Return all of it, or head and tail with the true length between them."""
        if self.characters <= self.limit:
            return self._head
        everything = self._head + "".join(self._rest)
        tail = everything[-self._tail_room :] if self._tail_room else ""
        note = f"\n[... {self.characters:,} characters in all; the middle is left out ...]\n"
        return self._head[: self._head_room] + note + tail
