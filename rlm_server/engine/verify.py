"""Verifies an answer: whether what it quotes, and the places it names, stand in the context."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from rlm_server.context.corpus import Corpus, Document
from rlm_server.engine.evidence import LINE, named_document
from rlm_server.engine.finding import find_all
from rlm_server.engine.quotations import Quotation, quotations
from rlm_server.protocol import Evidence, Location, Position, Quote, Range
from rlm_server.sandbox.cite import NotFound, likest, loosely
from rlm_server.sandbox.documents import Document as Text
from rlm_server.sandbox.documents import located
from rlm_server.text import clean, clip

SHOWN = 300
"""Characters of a quotation that its event shows."""

NEAR = 1 << 20
"""Characters that are searched for something like a quotation that stands nowhere."""

_LIKENESSES = 20
"""Quotations for which that is done."""

_PATH = re.compile(r"[\w./\\-]*")


def verify(
    answer: str,
    question: str,
    corpus: Corpus,
    evidence: Sequence[Evidence],
    read: Sequence[tuple[int, int]],
) -> list[Quote]:
    """List the quotations of an answer and the places it names that aren't there, in order.

    ``evidence`` are the places that are; ``read`` the stretches of the corpus that models have
    seen, where quotations are looked for first. Reads the corpus; blocks.
    """
    quoted = [one for one in quotations(answer) if not _repeats(one, question)]
    cited = [document for place in evidence if (document := corpus.find(place.path))]
    near = [*dict.fromkeys((d.start, d.end) for d in cited), *read]
    fragments = [fragment for one in quoted for fragment in one.fragments()]
    found, everywhere = find_all(fragments, corpus, near)
    alike = _Likenesses(corpus, near)
    quotes = [_judge(one, corpus, found, everywhere, alike) for one in quoted]
    quotes += _missing_places(answer, corpus)
    return sorted(quotes, key=lambda quote: quote.start)


def _repeats(one: Quotation, question: str) -> bool:
    """Whether a quotation only says again what was asked."""
    return loosely(one.text.strip()).search(question) is not None


def _judge(
    one: Quotation, corpus: Corpus, found: dict[str, int], everywhere: bool, alike: _Likenesses
) -> Quote:
    fragments = one.fragments()
    missing = [fragment for fragment in fragments if fragment not in found]
    offset = next((found[fragment] for fragment in fragments if fragment in found), None)
    if not missing:
        return _quote(one, corpus, "found", offset)
    if not everywhere:
        return _quote(one, corpus, "unchecked", offset)
    places = [alike.find(fragment) for fragment in missing]
    if None in places:
        return _quote(one, corpus, "missing", None)
    return _quote(one, corpus, "like", places[0])


def _quote(
    one: Quotation,
    corpus: Corpus,
    status: Literal["found", "like", "missing", "unchecked"],
    offset: int | None,
) -> Quote:
    document = None if offset is None else corpus.document_at(offset)
    made = Quote(
        text=clean(clip(one.text, SHOWN)), start=one.start, end=one.end, kind="quote", status=status
    )
    if document is not None and offset is not None:
        line = corpus.line_at(document, offset)
        made.path, made.line = document.path, line
        start, end = Position(line=line - 1, character=0), Position(line=line, character=0)
        made.location = Location(uri=document.uri, range=Range(start=start, end=end))
    return made


class _Likenesses:
    """Looks for what is like a quotation in the texts nearest to the answer."""

    def __init__(self, corpus: Corpus, near: Iterable[tuple[int, int]]) -> None:
        self._corpus = corpus
        self._near = near
        self._texts: list[Text] | None = None
        self._left = _LIKENESSES

    def find(self, text: str) -> int | None:
        """The offset of the likest place, where it is like enough."""
        if self._left <= 0:
            return None
        self._left -= 1
        if self._texts is None:
            self._texts = self._read()
        place = likest(text, self._texts)
        if isinstance(place, NotFound):
            return None
        start: int = getattr(place.document, "start", 0)
        return start + place.offset

    def _read(self) -> list[Text]:
        texts, left = [], NEAR
        for start, end in itertools.chain(self._near, [(0, self._corpus.characters)]):
            end = min(end, start + left)
            if end > start:
                text = Text(self._corpus.slice(start, end))
                texts.append(located(text, "", 1, start))
                left -= end - start
        return texts


def _missing_places(answer: str, corpus: Corpus) -> list[Quote]:
    """The places of the form ``path:line`` that the answer names and that are not there."""
    endings = {_ending(document) for document in corpus.documents}
    quotes = []
    for match in itertools.islice(LINE.finditer(answer), 200):
        before = answer[max(0, match.start() - 1024) : match.start()]
        document = named_document(before, corpus.find)
        path, ending = _path_at_end(before.rpartition("\n")[2])
        if document is None and ending not in endings:
            continue  # a time, a port, a ratio
        if document is None and "//" in before.split()[-1]:
            continue
        if document is not None and corpus.line(document, int(match[1])) is not None:
            continue
        start = match.start() - len(path)
        text = answer[start : match.end()]
        quotes.append(
            Quote(
                text=clip(text, SHOWN), start=start, end=match.end(), kind="place", status="missing"
            )
        )
    return quotes


def _path_at_end(line: str) -> tuple[str, str]:
    """What ends a line and looks like a file's path, and its ending; two empty texts if nothing.

    Matched backwards, from where it ends: looked for, it takes quadratic time on a long word.
    """
    found = _PATH.match(line[::-1])
    path = found[0][::-1] if found else ""
    stem, _, ending = path.rpartition(".")
    if not ending.replace("_", "a").isalnum() or len(ending) > 8 or stem[-1:] in ("", *"./\\"):
        return "", ""
    return path, ending.lower()


def _ending(document: Document) -> str:
    return document.path.rpartition(".")[2].lower()
