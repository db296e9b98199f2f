"""Changes to the strategy notes: proposed one by one, shown as diffs, and made if accepted."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rlm_server.engine.lessons import topic
from rlm_server.engine.notes import notes_of
from rlm_server.errors import LogError
from rlm_server.protocol import NoteChange

LONGEST = 240
"""Characters of a note."""

MOST = 8
"""Notes of a kind."""

HEAD = """# Strategy notes

What has worked, by kind of question: count, compare, summarise, list, locate, explain, other, and
any for all. Lines that begin with "- " are told to root models. Yours to edit.
"""


def proposed(text: str, kind: str, notes: Sequence[str], *, whole: bool) -> list[NoteChange]:
    """The changes that bring the notes of a kind to what is proposed.

    A note takes the place of one on the same topic; with ``whole``, what is not proposed again
    goes.
    """
    before = notes_of(text, kind)
    wanted = list(dict.fromkeys(filter(None, map(one_line, notes))))[:MOST]
    left = [note for note in before if note not in wanted]
    changes: list[tuple[str | None, str | None]] = []
    for note in wanted:
        if note in before:
            continue
        same = next((old for old in left if topic(old) and topic(old) == topic(note)), None)
        if same is not None:
            left.remove(same)
        changes.append((same, note))
    if whole:
        changes += [(old, None) for old in left]
    made = []
    for old, new in changes:
        change = NoteChange(kind=kind, old=old, new=new, diff="")
        change.diff = diff(text, applied(text, [change]), around=1)
        made.append(change)
    return made


def one_line(note: str) -> str:
    """A note as it may stand in the file and in prompts."""
    plain = " ".join(re.sub(r"[`<>]", "", note).split()).lstrip("-*# ")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1].rstrip() + "…"


def applied(text: str, changes: Iterable[NoteChange]) -> str:
    """The text with changes made; everything else in it stays as it is."""
    lines = (text or HEAD).splitlines()
    for change in changes:
        _apply(lines, change)
    return "\n".join(lines) + "\n"


def _apply(lines: list[str], change: NoteChange) -> None:
    start, end = _section(lines, change.kind)
    at = next((n for n in range(start, end) if _note(lines[n]) == change.old), None)
    if change.old is not None and at is not None:
        lines[at : at + 1] = [f"- {change.new}"] if change.new else []
    elif change.new is not None:
        last = next((n for n in range(end, start, -1) if lines[n - 1].strip()), start)
        lines.insert(last, f"- {change.new}")


def _section(lines: list[str], kind: str) -> tuple[int, int]:
    """The lines below the heading of a kind, which is added where it is not there."""
    heads = [n for n, line in enumerate(lines) if line.startswith("#")]
    for place, n in enumerate(heads):
        if lines[n].lower().split() == ["##", kind]:
            return n + 1, heads[place + 1] if place + 1 < len(heads) else len(lines)
    lines += ["", f"## {kind}"]
    return len(lines), len(lines)


def _note(line: str) -> str | None:
    return line[2:].strip() if line[:2] in ("- ", "* ") else None


def diff(before: str, after: str, *, around: int = 3) -> str:
    """A unified diff of the notes."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "notes.md", "notes.md", lineterm="", n=around
    )
    return "".join(line + "\n" for line in lines)


def write(path: Path, text: str) -> None:
    """Write the notes, whole or not at all. Raises LogError."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise LogError(
            f"The notes can't be written to {path}: {error.strerror}.", cure="Check its directory."
        ) from error
