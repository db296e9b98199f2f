"""What a provider itself says of a fault, found in whatever it has sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress


def message_of(text: str) -> str | None:
    """The message in a provider's JSON; None where there is none, or no JSON."""
    with suppress(ValueError, RecursionError):
        return _message_in(json.loads(text))
    return None


def _message_in(value: object) -> str | None:
    """The ``message`` or ``error`` of a provider's JSON, however deep it stands."""
    if isinstance(value, Mapping):
        for name in ("message", "error", "detail"):
            inner = value.get(name)
            if isinstance(inner, str) and inner:
                return inner
            if found := _message_in(inner):
                return found
    return None
