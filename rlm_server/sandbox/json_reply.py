"""Reads JSON out of a model's reply.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

_FENCED = re.compile(r"^[ \t]*```[\w-]*[ \t]*\n(.*?)\n[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_START = re.compile(r"[{\[]")
_STARTS = 500  # places of a reply where a value may begin that are tried


def read_json(
    reply: str,
    hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    *,
    among_words: bool = True,
) -> Any:
    """Return the JSON value of a reply: bare, in a fenced block, or the longest ``among_words``.

    ``hook`` makes objects of their pairs, as in ``json``. Raises ValueError where there is none.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=hook)
    for text in (reply, *reversed(_FENCED.findall(reply))):
        try:
            return decoder.decode(text.strip())
        except (ValueError, RecursionError):
            continue
    best, longest, end = None, 0, 0
    starts = itertools.islice(_START.finditer(reply), _STARTS) if among_words else ()
    for start in (match.start() for match in starts):
        if start < end:  # within what was read
            continue
        try:
            value, end = decoder.raw_decode(reply, start)
        except (ValueError, RecursionError):
            continue
        if end - start > longest:  # "as in [1]" is not what was asked for
            best, longest = value, end - start
    if longest:
        return best
    raise ValueError("the reply is not JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
