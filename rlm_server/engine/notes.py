"""Strategy notes: what a person has accepted of what marked runs taught, by kind of question.

One Markdown file beside the configuration: a heading of the second level for each kind, below it
one line a note. It is a person's to edit; whatever else stands in it is kept and not used.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from rlm_server.config import NotesConfig, config_path
from rlm_server.errors import LogError

ANY = "any"
"""Heading of the notes for all kinds."""

KINDS: dict[str, re.Pattern[str]] = {
    kind: re.compile(pattern, re.IGNORECASE)
    for kind, pattern in {
        "count": r"\bhow (?:many|often|much)\b|\bnumber of\b|\bcount\b|\bper ?cent|\bproportion\b"
        r"|\bin total\b",
        "compare": r"\bcompar|\bdiffer|\bversus\b|\bvs\b|\bin common\b|\bbetter\b|\bchanged\b",
        "summarise": r"\bsummar|\boverview\b|\boutline\b|\bgist\b|\bmain (?:points|ideas)\b"
        r"|\bin short\b",
        "list": r"\blist\b|\ball (?:the|of|those|places|files)\b|\bevery\b|\benumerate\b"
        r"|\bwhich (?:\w+ ){0,3}(?:are|have|do|were)\b",
        "locate": r"\bwhere\b|\bin (?:which|what)\b|\bwhich (?:file|function|line|page)\b|\bwho\b"
        r"|\bwhen\b|\bfind\b",
        "explain": r"\bwhy\b|\bexplain|\bhow (?:do|does|did|is|are|was|were|can|could|should)\b",
    }.items()
}
"""How questions of each kind are told, in this order; a question of none is ``other``."""

OTHER = "other"

NAMES = (*KINDS, OTHER, ANY)

_HEADING = re.compile(r"##\s+(\S+)\s*$")
_NOTE = re.compile(r"[-*]\s+(\S.*)")


def kind_of(question: str) -> str:
    """The kind of a question, told by its words."""
    return next((kind for kind, words in KINDS.items() if words.search(question)), OTHER)


def notes_path() -> Path:
    """Where the notes are: beside the configuration."""
    return config_path().with_name("notes.md")


def read_notes() -> str:
    """The file's text; empty where there is none. Raises LogError for one that can't be read."""
    try:
        return notes_path().read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(
            f"{notes_path()} can't be read: {error}.",
            cure="Save it as UTF-8, or see to it that it may be read.",
        ) from error


def notes_of(text: str, kind: str) -> list[str]:
    """The notes below a heading, in their order."""
    found: list[str] = []
    here = False
    for line in text.splitlines():
        if line.startswith("#"):
            heading = _HEADING.match(line)
            here = heading is not None and heading[1].lower() == kind
        elif here and (note := _NOTE.match(line)):
            found.append(note[1].strip())
    return found


def chosen(question: str, config: NotesConfig) -> list[str]:
    """The notes for a question: those of its kind, then those for any, as far as there is room.

    None where the file can't be read, which is no reason not to answer.
    """
    text = ""
    if config.enabled:
        with suppress(LogError):
            text = read_notes()
    room = config.characters
    notes = []
    for note in (*notes_of(text, kind_of(question)), *notes_of(text, ANY)):
        room -= len(note) + 3
        if room < 0:
            break
        notes.append(note)
    return notes


def told(notes: list[str]) -> str:
    """Notes as a root model is told them."""
    if not notes:
        return ""
    lines = "\n".join(f"- {note}" for note in notes)
    return f"What has worked for questions of this kind, to be followed where it fits:\n{lines}"
