"""What the model's code finds in its namespace beside the context, the answer and the calls.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from . import bm25, cite, grep
from .bm25 import Passage
from .channel import Channel
from .chunks import chunk_code, chunk_headings, chunk_lines, chunk_tokens
from .cite import Citation, NotFound
from .delegating import Delegating
from .documents import Document, Piece
from .found import Found, FoundList
from .mapped_text import Context
from .mapping import Mapping
from .reading import Reading

_LONGEST_PATH = 4096  # characters
_SHOWN = 4000  # characters of an earlier cell's output that ``history`` keeps

for _class in (Document, Piece, Found, Passage, Citation, NotFound):
    _class.__module__ = "__main__"  # so that the names shown are those that can be used


class PastCell(NamedTuple):
    """An earlier cell, as ``history`` lists them."""

    number: int
    code: str
    output: str
    """What it printed, cut in the middle; whole it is in ``_result_N``."""
    error: str
    """The last line of its traceback; empty where it went well."""
    reply: str
    """The whole reply that it stood in."""


class Helpers:
    """The helpers that cost no tokens, bound to one context and one channel."""

    def __init__(self, context: Context, channel: Channel, reading: Reading) -> None:
        self._context = context
        self.asking = Delegating(channel, context, reading)
        self.history: list[PastCell] = []

    def vocabulary(self) -> dict[str, Any]:
        """Return what these are called in the namespace."""
        return {
            "llm_query": self.asking.llm_query,
            "llm_query_batched": self.asking.llm_query_batched,
            "rlm_query": self.asking.rlm_query,
            "rlm_query_batched": self.asking.rlm_query_batched,
            "map_reduce": Mapping(self.asking.llm_query_batched).map_reduce,
            "grep": self.grep,
            "search": self.search,
            "cite": self.cite,
            "chunk_lines": chunk_lines,
            "chunk_headings": chunk_headings,
            "chunk_tokens": chunk_tokens,
            "chunk_code": chunk_code,
            "history": self.history,
        }

    def remember(self, number: int, code: str, output: str, error: str, reply: str) -> None:
        """Add a cell that has ended to the history."""
        if len(output) > _SHOWN:
            half = _SHOWN // 2
            left_out = f"\n[... {len(output):,} characters, whole in _result_{number} ...]\n"
            output = output[:half] + left_out + output[-half:]
        self.history.append(PastCell(number, code, str(output), error, reply))

    def complete(self, reply: str) -> None:
        """Say which reply the last cell stood in, whole."""
        if self.history and isinstance(self.history[-1], PastCell):
            self.history[-1] = self.history[-1]._replace(reply=reply)

    def grep(
        self,
        pattern: str | re.Pattern[str],
        within: Any = None,
        *,
        ignore_case: bool = False,
        context_lines: int = 0,
        limit: int | None = 200,
    ) -> FoundList[Found]:
        r"""Return the lines that match a regular expression; each prints as ``path:line: text``.

        ``within`` is a text, a document or a list of them, or the path of a document or a pattern
        such as ``*.py``; by default the whole context. Each
        line has ``.path``, ``.line``, ``.text``, ``.document`` and ``.offset`` (in the document).
        Lines are matched one by one unless the pattern names ``\n``.
        """
        return grep.grep(
            pattern,
            self._in(within),
            ignore_case=ignore_case,
            context_lines=context_lines,
            limit=limit,
        )

    def search(self, query: str, k: int = 10, within: Any = None) -> FoundList[Passage]:
        """Return the ``k`` passages that say most about the words of the query, the best first.

        Each prints as ``path:line`` and its lines, and has ``.path``, ``.line``, ``.last_line``,
        ``.text``, ``.score``, ``.document`` and ``.offset``.
        """
        return bm25.search(query, k, self._in(within))

    def cite(self, quote: str, within: Any = None) -> Citation | NotFound:
        """Find where a quotation stands; prints as ``path:line``.

        Also where it differs in white space, or a little in words: see ``.exact``, ``.score`` and
        ``.text``. What is found nowhere gives something false that says so.
        """
        return cite.cite(quote, self._in(within))

    def _in(self, within: Any) -> Any:
        """What is looked at: a path or a pattern of paths stands for those documents."""
        if within is None:
            return self._context
        if type(within) is str and len(within) <= _LONGEST_PATH:
            documents = self._context.documents
            if within in documents:
                return documents[within]
            if "*" in within and (matching := documents.glob(within)):
                return matching
        return within
