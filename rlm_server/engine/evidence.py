"""Evidence: the places that an answer names and that really stand in the context."""

from __future__ import annotations

import re

from rlm_server.context.corpus import Corpus
from rlm_server.protocol import Evidence, Location, Position, Range
from rlm_server.text import clean

MOST = 50
"""Places listed of one answer."""

_QUOTE = 200
_PATH = 1024
_LINE = re.compile(r":(\d{1,9})\b")
_PATH_END = re.compile(r"[^\s:`*\"'()\[\]<>|,;]+\Z")


def find_evidence(answer: str, corpus: Corpus) -> list[Evidence]:
    """List each ``path:line`` of the answer that names a line of a document, in order, once.

    Reads one line of the corpus for each; paths may be written in full or by their last parts.
    """
    found: dict[tuple[str, int], Evidence] = {}
    for match in _LINE.finditer(answer):
        # Looked for backwards from the line number, within bounds: a pattern for the whole would
        # take quadratic time on a long word.
        path = _PATH_END.search(answer[max(0, match.start() - _PATH) : match.start()])
        document = corpus.find(path[0]) if path else None
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
