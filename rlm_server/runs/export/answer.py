"""The answer on the HTML page: linked to its evidence, with what it is drawn from, and doubts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from rlm_server.protocol import Evidence, Provenance
from rlm_server.runs.export import figures
from rlm_server.runs.export.items import Verdict
from rlm_server.runs.export.visible import visible


def answer(verdict: Verdict, number: int) -> Iterator[str]:
    """Yield the answer, and its evidence; ``number`` tells the answers of one page apart."""
    partial = verdict.last.partial
    evidence = verdict.last.evidence
    yield f"<h2>{'Answer so far' if partial else 'Answer'}</h2>\n"
    yield f'<div class="answer{" partial" if partial else ""}"><div class="text" dir="auto">'
    yield f"{_marked(verdict, number)}</div></div>\n"
    if verdict.drawn:
        yield from _drawn(verdict.drawn)
    if evidence:
        yield "<h3>Evidence</h3>\n<ol>\n"
        for index, place in enumerate(evidence):
            yield f'<li id="e{number}-{index}">{_place(place)}'
            yield f" <code><bdi>{_text(place.quote)}</bdi></code></li>\n"
        yield "</ol>\n"


def _drawn(told: Provenance) -> Iterator[str]:
    """How much of the context the answer rests on, where that is, and what can't be found."""
    if sentence := figures.drawn(told):
        yield f'<p class="facts">{_text(sentence)}</p>\n'
    if told.strip:
        yield f'<svg class="strip" viewBox="0 0 {len(told.strip)} 10" preserveAspectRatio="none"'
        yield ' role="img" aria-label="Which parts of the context were read">'
        for at, share in enumerate(told.strip):
            if share:
                height = max(1.0, share / 10)
                yield f'<rect class="read" x="{at}" y="{10 - height:g}" width="1" '
                yield f'height="{height:g}"></rect>'
        yield "</svg>\n"
    if told.stretches:
        yield "<details><summary>What was read</summary><ul>\n"
        for one in told.stretches:
            size = figures.count(one.characters, "character")
            name = _link(one.location.uri, f"{one.path}:{one.line}")
            yield f"<li>{name} to line {one.last_line}, {size}</li>\n"
        yield "</ul></details>\n"
    doubts = [(quote, figures.doubt(quote)) for quote in told.quotes]
    if any(doubt for _, doubt in doubts):
        yield "<h3>Not to be found in the context</h3>\n<ul>\n"
        for quote, doubt in doubts:
            if doubt:
                said = f"<bdi>{_text(quote.text)}</bdi>"
                yield f'<li>{said}: <span class="bad">{_text(doubt)}</span></li>\n'
        yield "</ul>\n"


def _marked(verdict: Verdict, number: int) -> str:
    """The answer's text, its doubtful quotations marked."""
    text, evidence = verdict.text, verdict.last.evidence
    pieces, at = [], 0
    for quote in verdict.drawn.quotes if verdict.drawn else []:
        doubt = figures.doubt(quote)
        if doubt and at <= quote.start < quote.end <= len(text):
            pieces.append(_linked(text[at : quote.start], evidence, number))
            inner = _linked(text[quote.start : quote.end], evidence, number)
            pieces.append(f'<mark title="{_text(doubt)}">{inner}</mark>')
            at = quote.end
    return "".join([*pieces, _linked(text[at:], evidence, number)])


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
    return _link(place.location.uri, f"{place.path}:{place.line}")


def _link(uri: str, words: str) -> str:
    name = _text(words)
    # Only files: what else a URI can do is not for a page that others may have written.
    return f'<a href="{escape(uri)}">{name}</a>' if uri.startswith("file:///") else name


def _text(text: str) -> str:
    return escape(visible(text))
