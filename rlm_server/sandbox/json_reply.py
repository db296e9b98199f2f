"""Reads JSON out of a model's reply.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_FENCED = re.compile(r"^[ \t]*```[\w-]*[ \t]*\n(.*?)\n[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


def read_json(
    reply: str,
    hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    *,
    among_words: bool = True,
) -> Any:
    """Return the JSON value of a reply: bare, in a fenced block, or ``among_words``.

    ``hook`` makes objects of their pairs, as in ``json``. Raises ValueError where there is none.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=hook)
    for text in (reply, *reversed(_FENCED.findall(reply))):
        try:
            return decoder.decode(text.strip())
        except (ValueError, RecursionError):
            continue
    starts = sorted(at for at in (reply.find("{"), reply.find("[")) if at >= 0 and among_words)
    for start in starts:
        try:
            return decoder.raw_decode(reply, start)[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError("the reply is not JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
