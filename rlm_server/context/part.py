"""A part of a corpus, for child runs: the same text file, and an index of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlm_server.context.corpus import Corpus, Document


class Part:
    """What stands between two offsets of a corpus; its text is not copied.

    Documents that the part cuts are there as far as they reach into it.
    """

    def __init__(self, corpus: Corpus, start: int, end: int, index_path: Path) -> None:
        """Write the part's index to ``index_path``. Offsets are characters. Raises OSError."""
        self.text_path = corpus.text_path
        self.index_path = index_path
        self.part = (max(0, start), min(end, corpus.characters))
        self.documents = _cut(corpus, *self.part)
        self.characters = self.part[1] - self.part[0]
        self.bytes = sum(document.bytes for document in self.documents)
        self.whole = corpus
        entries = [
            {"path": d.path, "start": d.start, "end": d.end, "firstLine": d.first_line}
            for d in self.documents
        ]
        index_path.write_bytes(msgspec.json.encode({"documents": entries}))

    def head(self, characters: int) -> str:
        """Give the beginning of the part's text."""
        return self.slice(0, characters)

    def tail(self, characters: int) -> str:
        """Give the end of the part's text."""
        return self.slice(max(0, self.characters - characters), self.characters)

    def slice(self, start: int, end: int) -> str:
        """Give the text between two offsets of the part, and nothing of what is outside of it."""
        base = self.part[0]
        return self.whole.slice(base + max(0, start), base + min(end, self.characters))

    def close(self) -> None:
        """Remove the index."""
        self.index_path.unlink(missing_ok=True)


def _cut(corpus: Corpus, start: int, end: int) -> list[Document]:
    """The documents between two offsets of the corpus, with offsets from the first of these."""
    cut = []
    for document in corpus.documents:
        first, last = max(document.start, start), min(document.end, end)
        if first >= last:
            continue
        cut_off = document.start < start
        line = corpus.line_at(document, first) if cut_off else document.first_line
        whole = max(1, document.end - document.start)
        share = document.bytes * (last - first) // whole
        cut.append(
            msgspec.structs.replace(
                document, start=first - start, end=last - start, first_line=line, bytes=share
            )
        )
    return cut
