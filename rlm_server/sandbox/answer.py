"""An answer as it leaves the sandbox: a text, of bounded length.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import json
from typing import Any

from .channel import clean

_ANSWER_LIMIT = 2_000_000


def _json(value: Any) -> str:
    """Return a value as JSON, or where that can't be, as Python shows it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def bounded(value: Any) -> str | None:
    """Return what the code has set as a text; None where that is nothing."""
    if value is None:
        return None
    text = value if isinstance(value, str) else _json(value)
    if len(text) > _ANSWER_LIMIT:
        text = f"{text[:_ANSWER_LIMIT]}\n[cut here; {len(text):,} characters in all]"
    return clean(str(text)) or None
