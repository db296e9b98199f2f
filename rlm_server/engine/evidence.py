"""Evidence: the places that an answer names and that really stand in the context."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import lru_cache

from rlm_server.context.corpus import Corpus, Document
from rlm_server.protocol import Evidence, Location, Position, Range
from rlm_server.text import clean

MOST = 50
"""Places listed of one answer."""

_LOOKED_AT = 200
"""Places of an answer that are looked up; a hostile one may have a million."""

_QUOTE = 200
_PATH = 1024
LINE = re.compile(r":(\d{1,9})\b")
_SIGNS = "`*\"'()[]<>|,;"
_WORDS = 8
"""Words that a path with blanks in it may have."""


def find_evidence(answer: str, corpus: Corpus) -> list[Evidence]:
    """List each ``path:line`` of the answer that names a line of a document, in order, once.

    Reads one line of the corpus for each; paths may be written in full or by their last parts.
    """
    found: dict[tuple[str, int], Evidence] = {}
    find = lru_cache(maxsize=None)(corpus.find)
    for match in itertools.islice(LINE.finditer(answer), _LOOKED_AT):
        document = named_document(answer[max(0, match.start() - _PATH) : match.start()], find)
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


def named_document(text: str, find: Callable[[str], Document | None]) -> Document | None:
    """The document whose path ends the text: its last word, or its last few.

    Cut out backwards and within bounds: a pattern would take quadratic time on a long word.
    """
    line = text.rpartition("\n")[2].rpartition(": ")[2]
    start = len(line)
    for _ in range(_WORDS):
        start = line.rfind(" ", 0, start)
        for path in (line[start + 1 :], line[start + 1 :].strip(_SIGNS)):
            if path and (document := find(path)):
                return document
        if start < 0:
            break
    return find(re.split(r"[\s`*\"'()\[\]<>|,;]", line)[-1])
