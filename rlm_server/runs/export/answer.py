"""The answer on the HTML page, the places that it names linked to its evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from rlm_server.protocol import Evidence
from rlm_server.runs.export.story import Verdict
from rlm_server.runs.export.visible import visible


def answer(verdict: Verdict, number: int) -> Iterator[str]:
    """Yield the answer, and its evidence; ``number`` tells the answers of one page apart."""
    partial = verdict.last.partial
    evidence = verdict.last.evidence
    yield f"<h2>{'Answer so far' if partial else 'Answer'}</h2>\n"
    yield f'<div class="answer{" partial" if partial else ""}"><div class="text" dir="auto">'
    yield f"{_linked(verdict.text, evidence, number)}</div></div>\n"
    if evidence:
        yield "<h3>Evidence</h3>\n<ol>\n"
        for index, place in enumerate(evidence):
            yield f'<li id="e{number}-{index}">{_place(place)}'
            yield f" <code><bdi>{_text(place.quote)}</bdi></code></li>\n"
        yield "</ol>\n"


def _linked(text: str, evidence: list[Evidence], number: int) -> str:
    """The text, in which each place of the evidence that it names leads there."""
    places = {f"{place.path}:{place.line}": index for index, place in enumerate(evidence)}
    if not places:
        return _text(text)
    longest_first = sorted(places, key=len, reverse=True)
    pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})(?![0-9])")
    pieces = pattern.split(text)
    for at in range(1, len(pieces), 2):
        pieces[at] = f'<a href="#e{number}-{places[pieces[at]]}">{_text(pieces[at])}</a>'
    pieces[::2] = map(_text, pieces[::2])
    return "".join(pieces)


def _place(place: Evidence) -> str:
    name = _text(f"{place.path}:{place.line}")
    uri = place.location.uri
    # Only files: what else a URI can do is not for a page that others may have written.
    return f'<a href="{escape(uri)}">{name}</a>' if uri.startswith("file:///") else name


def _text(text: str) -> str:
    return escape(visible(text))
