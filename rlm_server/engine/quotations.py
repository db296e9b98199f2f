"""Quotations in an answer: what it says stands in the context, and where in the answer it says so.

Quotes of any kind, quoted paragraphs of Markdown, what is indented or fenced below a place, and
phrases in backquotes. Short ones are words of the answer's own, in scare quotes, or names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

MOST = 100
"""Quotations of an answer that are looked up."""

LONGEST = 2000
"""Characters of a quotation that are looked up."""

_WORDS, _CHARACTERS = 3, 20
"""A quotation has at least so many words, or so many characters."""

_QUOTED = re.compile(
    r"\u201c([^\u201c\u201d]{3,2000})[\u201d\u201c]"
    r"|\u201e([^\u201e\u201c\u201d]{3,2000})[\u201c\u201d]"
    r"|\u00ab([^\u00ab\u00bb]{3,2000})\u00bb"
    r'|(?<![\w"])"((?:[^"\n]|\n(?!\s*\n)){3,2000})"(?!\w)'
)
_BACKQUOTED = re.compile(r"(?<!`)(`{1,2})(?!`)([^`\n]{3,2000})\1(?!`)")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^\n`]*$")
_PLACE = re.compile(r"[^\s:]:\d+\b")
_ELLIPSIS = re.compile(r"\s*(?:\[\s*)?(?:\u2026|\.{3,})(?:\s*\])?\s*")
_AROUND = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb .,;:!?\t\n"


class Quotation(NamedTuple):
    """A quotation, and where it stands in the answer, in characters."""

    text: str
    start: int
    end: int

    def fragments(self) -> list[str]:
        """What has to stand in the context: the text, or what is left between its ellipses."""
        parts = [part.strip(_AROUND) for part in _ELLIPSIS.split(self.text)]
        long_ones = [part for part in parts if len(part) >= 8]
        return long_ones or [self.text.strip(_AROUND)]


def quotations(answer: str) -> list[Quotation]:
    """List the quotations of an answer in their order, none within another."""
    found: list[Quotation] = []
    last = 0
    for one in sorted(_all(answer), key=lambda one: (one.start, -one.end)):
        if one.start >= last and _long_enough(one.text):
            found.append(one._replace(text=one.text[:LONGEST]))
            last = one.end
    return found[:MOST]


def _all(answer: str) -> Iterator[Quotation]:
    plain, blocks = _without_blocks(answer)
    yield from blocks
    yield from _matches(_BACKQUOTED, plain, 2)
    plain = _BACKQUOTED.sub(lambda match: " " * len(match[0]), plain)
    for match in _QUOTED.finditer(plain):
        text = next(group for group in match.groups() if group is not None)
        yield Quotation(text, match.start() + 1, match.end() - 1)


def _matches(pattern: re.Pattern[str], text: str, group: int) -> Iterator[Quotation]:
    for match in pattern.finditer(text):
        yield Quotation(match[group], match.start(group), match.end(group))


def _without_blocks(answer: str) -> tuple[str, list[Quotation]]:
    """The answer with its blocks blanked out, and what those blocks quote."""
    kept: list[str] = []
    blocks: list[Quotation] = []
    at = 0
    for (kind, _), group in groupby(_classified(answer), key=lambda one: one[:2]):
        lines = [line for _, _, line in group]
        # Blanked out line by line, so that what stands around it is not joined.
        kept += lines if kind == "plain" else [" " * len(line) for line in lines]
        if kind == "fenced":
            blocks += _paragraphs([" " * len(lines[0]), *_without_fence(lines[1:])], at)
        elif kind in ("quoted", "below"):
            blocks += _paragraphs(lines, at)
        at += sum(len(line) + 1 for line in lines)
    return "\n".join(kept), blocks


def _without_fence(lines: list[str]) -> list[str]:
    return lines[:-1] if lines and _FENCE.match(lines[-1]) else lines


def _paragraphs(lines: Iterable[str], start: int) -> Iterator[Quotation]:
    """The paragraphs of a block, without the marks before its lines."""
    held: list[str] = []
    first = last = at = start
    for line in [*lines, ""]:
        words = line.lstrip("> \t")
        if words.strip():
            first = at + len(line) - len(words) if not held else first
            held.append(words)
            last = at + len(line)
        elif held:
            yield Quotation("\n".join(held), first, last)
            held = []
        at += len(line) + 1


def _classified(answer: str) -> Iterator[tuple[str, int, str]]:
    """Yield each line with its kind, and a number that tells fenced blocks apart.

    What is indented or fenced below a line that names a place quotes; other fenced lines are the
    answer's own code.
    """
    kind, number, fence, named = "plain", 0, "", False
    for line in answer.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence, named = "", False
            yield kind, number, line
            continue
        if mark:
            kind, fence, number = ("fenced" if named else "code"), mark[1], number + 1
        elif line.lstrip().startswith(">"):
            kind = "quoted"
        elif line.startswith(("    ", "\t")) and (named or kind == "below"):
            kind = "below"
        else:
            kind = "plain"
            if line.strip():
                named = bool(_PLACE.search(line))
        yield kind, number, line


def _long_enough(text: str) -> bool:
    words = text.split()
    return len(words) >= _WORDS or (len(text) >= _CHARACTERS and len(words) > 1)
