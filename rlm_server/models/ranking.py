"""Ranks passages of documents against words. Runs in the REPL: its source is the model's code.

So it has the standard library only, and knows documents as the REPL has them: ``str`` with
``path`` and ``line_at``.
"""

import math
import re
from bisect import bisect_right
from typing import Any, NamedTuple

WINDOW = 12  # lines of a passage
SEGMENT = 100_000  # characters that are judged as one before any line is looked at
SEGMENTS = 80  # so many of them are looked at closely
PER_SEGMENT, PER_DOCUMENT = 4, 3  # passages

DEFINITION = re.compile(
    r"^[ \t]*(?:(?:export|public|private|static|async|pub|abstract|final|default)\s+)*"
    r"(?:def|class|function|func|fn|struct|enum|trait|interface|type|macro|const|let|var"
    r"|\(def[\w-]*|\(cl-def\w*|#\s*define)\s+['\"(]?([^\s(){}:=,;]+)"
    r"|^[ \t]*([A-Za-z_][\w.]*)\s*(?::[^=\n]{1,80})?=(?!=)|^\[([^\]\n]+)\]\s*$"
)
HEADING = re.compile(r"^(?:#{1,6} |\*+ |=+ |;;;+ )\w")
NAMING = re.compile(
    r"^\s*(?:from\s.+\simport\b|import\b|__all__\b|\(require\b|\(provide\b|#include\b)"
)
MINOR = re.compile(r"(?:^|/)(?:change_?log|news|history|todo)|loaddefs|\.min\.|\.lock$|\.po$", re.I)
TESTS = re.compile(r"(?:^|[/_])tests?(?:[/_.]|$)|conftest|idlelib", re.I)


class Passage(NamedTuple):
    """A few lines of a document, and how much they say."""

    score: float
    document: Any
    line: int
    lines: list[str]


class Search(NamedTuple):
    """What is looked for: the terms' spellings, the weight of each, and the kind of question."""

    patterns: dict[str, re.Pattern[str]]
    weights: dict[str, float]
    place: bool
    tests: bool


def rank(
    documents: Any, terms: dict[str, list[str]], place: bool, tests: bool, best: int = 12
) -> tuple[list[Passage], dict[str, float]]:
    """Find the passages that say most about the terms, and what each term is worth."""
    counted, totals, characters = [], dict.fromkeys(terms, 0), 0
    for document, start, end in segments(documents):
        text = document[start:end].lower()
        counts = {term: sum(map(text.count, terms[term])) for term in terms}
        for term in terms:
            totals[term] += counts[term]
        characters += end - start
        counted.append((document, start, end, counts))
    # The rarer a term, the more it says; one that never occurs says nothing.
    weights = {t: math.log(1 + characters / 400 / (1 + n)) for t, n in totals.items() if n}
    for pair in [term for term in weights if " " in term]:  # a little more than its two words
        weights[pair] = 0.3 * sum(weights.get(word, 0) for word in pair.split())
    search = Search({t: pattern(terms[t]) for t in weights}, weights, place, tests)
    counted.sort(key=lambda segment: -promise(segment, search))
    passages = [
        passage
        for document, start, end, counts in counted[:SEGMENTS]
        if any(counts.values())
        for passage in closely(document, start, end, search)
    ]
    passages.sort(key=lambda passage: -passage.score)
    chosen: list[Passage] = []
    taken: dict[str, int] = {}
    for passage in passages:
        path = passage.document.path
        taken[path] = taken.get(path, 0) + 1
        if taken[path] <= PER_DOCUMENT and len(chosen) < best:
            chosen.append(passage)
    return chosen, weights


def segments(documents: Any) -> Any:
    """Cut long documents into segments that end with a line: (document, start, end)."""
    for document in documents:
        start, size = 0, len(document)
        while size - start > 2 * SEGMENT:
            end = document.find("\n", start + SEGMENT) + 1 or size
            yield document, start, end
            start = end
        yield document, start, size


def pattern(spellings: list[str]) -> re.Pattern[str]:
    """Find any spelling; a short word or a compound only where a word begins."""
    bounded = len(spellings[0]) < 5 or len(spellings) > 2
    end = "(?![a-z])" if len(spellings[0]) < 4 else ""
    some = "|".join(map(re.escape, spellings))
    return re.compile(("(?<![a-z])" if bounded else "") + f"(?:{some}){end}")


def promise(segment: Any, search: Search) -> float:
    """How much a segment is worth a closer look: by term frequencies and length, as in BM25."""
    document, start, end, counts = segment
    path, length = document.path.lower(), 2 + (end - start) / 20_000
    score = 0.0
    for term, weight in search.weights.items():
        score += weight * counts[term] / (counts[term] + length)
        score += weight * 0.8 * bool(search.patterns[term].search(path))
    return score * standing(path, search)


def standing(path: str, search: Search) -> float:
    """What a document's kind makes of its passages: logs of changes and tests count less."""
    test = TESTS.search(path) and not search.tests
    return (0.4 if test else 1.0) * (0.45 if MINOR.search(path) else 1.0)


def closely(document: Any, start: int, end: int, search: Search) -> list[Passage]:
    """The best passages of one segment, each around a line that says much."""
    text = document[start:end]
    lines, lowered = text.split("\n"), text.lower()
    if len(lowered) != len(text):  # a few letters grow when lowered; places must not move
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    breaks = [match.start() for match in re.finditer("\n", text)]
    hits: dict[int, dict[str, int]] = {}
    for term, wanted in search.patterns.items():
        for match in wanted.finditer(lowered):
            found = hits.setdefault(bisect_right(breaks, match.start()), {})
            found[term] = found.get(term, 0) + 1
    path = document.path.lower()
    in_path = [term for term, wanted in search.patterns.items() if wanted.search(path)]
    marks = {number: mark(lines[number], hits[number], search) for number in hits}
    scored = sorted(
        (-weigh(lines, number, hits, marks, in_path, search), number) for number in hits
    )
    factor, first = standing(path, search), document.line_at(start)
    passages: list[Passage] = []
    shown: set[int] = set()
    for negative, number in scored:
        window = range(max(0, number - 2), max(0, number - 2) + WINDOW)
        if len(passages) < PER_SEGMENT and shown.isdisjoint(window):
            shown.update(window)
            top = window.start
            passages.append(
                Passage(-negative * factor, document, first + top, lines[top : top + WINDOW])
            )
    return passages


def weigh(
    lines: list[str],
    number: int,
    hits: dict[int, dict[str, int]],
    marks: dict[int, float],
    in_path: list[str],
    search: Search,
) -> float:
    """How much the lines around one line say: every term once is better than one term often."""
    weights, counts, bonus = search.weights, dict[str, int](), 0.0
    for near in range(max(0, number - 2), max(0, number - 2) + WINDOW):
        for term, count in hits.get(near, {}).items():
            counts[term] = counts.get(term, 0) + count
        bonus = max(bonus, marks.get(near, 0.0) * (1.0 if near == number else 0.7))
    parts = {term: count / (count + 1.2) for term, count in counts.items()}
    for term in (*in_path, *around(lines, number, hits)):
        parts[term] = parts.get(term, 0.0) + 0.35
    whole = sum(weight for term, weight in weights.items() if " " not in term)
    covered = sum(weights[term] for term in parts if " " not in term) / whole
    together = sum(weights[term] for term in hits[number])
    together *= 0.3 if NAMING.match(lines[number]) else 1.0
    score = sum(weights[term] * part for term, part in parts.items()) + 0.8 * together + bonus
    return float(score * covered**1.5)


def around(lines: list[str], number: int, hits: dict[int, dict[str, int]]) -> set[str]:
    """The terms in the lines that enclose a line, by indentation: its function, its class."""
    terms: set[str] = set()
    depth = len(lines[number]) - len(lines[number].lstrip())
    for above in range(number - 1, max(-1, number - 80), -1):
        if depth == 0:
            break
        indent = len(lines[above]) - len(lines[above].lstrip())
        if indent < depth and lines[above].strip():
            depth = indent
            terms.update(hits.get(above, ()))
    return terms


def mark(line: str, found: dict[str, int], search: Search) -> float:
    """What a line gains by defining, or heading, what is asked for."""
    definition = DEFINITION.match(line)
    if definition and not NAMING.match(line):
        name = next(filter(None, definition.groups())).lower().replace("-", "").replace("_", "")
        named = [t for t in found if t.replace("-", "").replace(" ", "")[:5] in name]
        local = 0.6 if definition[2] and line[:1].isspace() else 1.0
        return sum(search.weights[t] for t in named) * (2.0 if search.place else 0.6) * local
    if HEADING.match(line):
        return sum(search.weights[t] for t in found) * (0.8 if search.place else 0.5)
    return 0.0
