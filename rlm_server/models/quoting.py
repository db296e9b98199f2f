"""The embedded model as sub model: picks the lines of a passage that a question is about."""

from __future__ import annotations

import re

import msgspec

from rlm_server.models.question import Question, read_question
from rlm_server.models.ranking import DEFINITION, HEADING, NAMING, pattern

NOTHING = "Nothing in this passage answers the question."
"""What the sub model says where no line fits."""

MOST = 4
"""Lines of one quotation."""

LONGEST = 200
"""Characters of a quoted line."""

QUESTION = re.compile(r"^The question: (.+?)$", re.MULTILINE)
SOURCE = re.compile(r"^The passage, from (.+):$", re.MULTILINE)
NUMBERED = re.compile(r"^(\d+): ?(.*)$")
OPENS = re.compile(r"[:({\[,\\]\s*$")
PROSE = re.compile(r"^[\s#;*`\"'/-]*\w+(?:[ ,;:'-]+\w+){4,}")
QUOTES = re.compile(r"""^\s*[rRbBuU]?(?:\"{3}|'{3})\s*$""")
SENTENCE_ENDS = re.compile(r"[.!?][\"'`)]*\s*$")


class Line(msgspec.Struct, frozen=True):
    """A line that may be quoted."""

    number: int
    text: str


def quote(prompt: str) -> str:
    """Answer a sub-call: ``path:line`` and the lines that matter, exactly, or that none does."""
    question, source, lines = _read(prompt)
    if not lines:
        return NOTHING
    scores = _scores(question, source, lines)
    best = max(range(len(lines)), key=lambda at: (scores[at], -at))
    if not scores[best]:
        return NOTHING
    first, last = _stretch(lines, scores, best)
    quoted = [f"    {line.text[:LONGEST].rstrip()}" for line in lines[first : last + 1]]
    where = f"{source}:{lines[first].number}" if source else f"Line {lines[first].number}:"
    return "\n".join([where, *quoted])


def _read(prompt: str) -> tuple[Question, str, list[Line]]:
    """The question, the passage's path, and its lines; also of prompts of another make."""
    asked, source = QUESTION.search(prompt), SOURCE.search(prompt)
    if asked and source:
        numbered = map(NUMBERED.match, prompt[source.end() :].split("\n"))
        lines = [Line(int(found[1]), found[2]) for found in numbered if found]
        return read_question(asked[1]), source[1], lines
    head, _, body = prompt.partition("\n")
    plain = [Line(number, text) for number, text in enumerate(body.split("\n"), 2)]
    asking = [line.text for line in plain if line.text.rstrip().endswith("?")]
    return read_question("\n".join([head, *asking])), "", plain


def _scores(question: Question, source: str, lines: list[Line]) -> list[float]:
    """How much each line says. What stands in the path or on every line says less."""
    patterns = {term: pattern(spellings) for term, spellings in question.terms.items()}
    found = [{t for t, p in patterns.items() if p.search(line.text.lower())} for line in lines]
    weights = {}
    for term, wanted in patterns.items():
        share = sum(term in some for some in found) / len(lines)
        in_path = wanted.search(source.lower()) is not None
        weights[term] = (0.3 if " " in term else 1.0) * (1 - share / 2) * (0.5 if in_path else 1)
    scores = []
    for line, some in zip(lines, found, strict=True):
        score = sum(weights[term] for term in some)
        if NAMING.match(line.text):
            score *= 0.4
        elif DEFINITION.match(line.text):
            score *= 1.6 if question.place else 1.2
        elif HEADING.match(line.text):
            score *= 1.2
        scores.append(score)
    return scores


def _stretch(lines: list[Line], scores: list[float], best: int) -> tuple[int, int]:
    """The run of lines around the best one that belongs together."""
    first = last = best
    enough = scores[best] * 0.6
    while first > 0 and last - first + 1 < MOST and scores[first - 1] >= enough:
        first -= 1
    if first > 0 and _unfinished(lines[first - 1].text) and PROSE.match(lines[first].text):
        first -= 1
    while last + 1 < len(lines) and last - first + 1 < MOST:
        text, following = lines[last].text, lines[last + 1].text
        goes_on = OPENS.search(text) or QUOTES.match(text) or _unfinished(text)
        if not following.strip() or not (goes_on or scores[last + 1] >= enough):
            break
        last += 1
    return first, last


def _unfinished(text: str) -> bool:
    """Whether a line is prose whose sentence goes on in the next line."""
    return bool(PROSE.match(text)) and not SENTENCE_ENDS.search(text)
