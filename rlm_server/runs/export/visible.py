"""Signs that can't be seen, or that turn a line around, shown by their names."""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def visible(text: str) -> str:
    r"""Return text in which what it hides can be read: ``\u202e`` becomes ``⟨U+202E⟩``."""
    text = text.replace("\r\n", "\n")
    return _HIDDEN.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text)
