"""Evidence: the places that an answer names and that really stand in the context."""

from __future__ import annotations

import itertools
import re

from rlm_server.context.corpus import Corpus
from rlm_server.protocol import Evidence, Location, Position, Range
from rlm_server.text import clean

MOST = 50
"""Places listed of one answer."""

_LOOKED_AT = 2000
"""Places of an answer that are looked up; a hostile one may have a million."""

_QUOTE = 200
_PATH = 1024
_LINE = re.compile(r":(\d{1,9})\b")
_NO_PATH = re.compile(r"[\s:`*\"'()\[\]<>|,;]+")


def find_evidence(answer: str, corpus: Corpus) -> list[Evidence]:
    """List each ``path:line`` of the answer that names a line of a document, in order, once.

    Reads one line of the corpus for each; paths may be written in full or by their last parts.
    """
    found: dict[tuple[str, int], Evidence] = {}
    for match in itertools.islice(_LINE.finditer(answer), _LOOKED_AT):
        # The path is cut out backwards from the line number, within bounds: one pattern for both
        # would take quadratic time on a long word.
        path = _NO_PATH.split(answer[max(0, match.start() - _PATH) : match.start()])[-1]
        document = corpus.find(path) if path else None
        line = int(match[1])
        if document is None or (document.path, line) in found:
            continue
        text = corpus.line(document, line)
        if text is None:
            continue
        start, end = Position(line=line - 1, character=0), Position(line=line, character=0)
        found[document.path, line] = Evidence(
            location=Location(uri=document.uri, range=Range(start=start, end=end)),
            path=document.path,
            line=line,
            quote=clean(text.strip()[:_QUOTE]),
        )
        if len(found) == MOST:
            break
    return list(found.values())
