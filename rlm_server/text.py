"""Text that may cross a border: clipped to a length, and such as every JSON parser accepts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()

MASK = "********"
"""Stands for a secret that is not shown."""

SHORTEST_SECRET = 6
"""Characters; a shorter text is too common in messages to be scrubbed out of them."""


def clean(text: str) -> str:
    """Replace what Emacs's JSON parser rejects: lone surrogates and NUL."""
    if "\0" in text:
        text = text.replace("\0", "\u2400")
    try:
        text.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, so that the two halves of a pair become the one character they mean.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_all(value: Any) -> Any:
    """Apply ``clean`` to every string in a value made of dicts, lists and scalars."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean_all(key): clean_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_all(item) for item in value]
    return value


def to_json(value: Any) -> bytes:
    """Encode structs, dicts and lists as JSON that any reader accepts."""
    try:
        encoded = _encoder.encode(value)
        if b"\\u0000" not in encoded:
            return encoded
    except UnicodeEncodeError:
        pass
    return _encoder.encode(clean_all(msgspec.to_builtins(value)))


def clip(text: str, limit: int) -> str:
    """Keep head and tail of a text longer than ``limit`` characters, and say what was cut."""
    if len(text) <= limit:
        return text
    mark = f"\n[... {len(text) - limit:,} of {len(text):,} characters left out ...]\n"
    head = (limit * 2) // 3
    return text[:head] + mark + text[len(text) - (limit - head) :]


def pieces(text: str, size: int) -> list[str]:
    """Cut a text into pieces of at most ``size`` characters; an empty text is one empty piece."""
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def dollars(amount: float) -> str:
    """An amount that a person has set, with all its digits: a limit of $0.001 is not one of $0."""
    return f"${amount:.2f}" if float(f"{amount:.2f}") == amount else f"${amount:g}"


def one_line(text: str, limit: int) -> str:
    """Text without line breaks and runs of blanks, cut at its end where it is longer."""
    text = " ".join(clean(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


_USER = re.compile(r"(?<=://).*@", re.DOTALL)
_PARAMETER = re.compile(
    r"(?i)(?<=[?&])([^=&#]*(?:key|token|secret|auth|pass|pwd|sig|cred|cookie)[^=&#]*=)[^&#]*"
)


def without_password(url: str) -> str:
    """Mask who one is in a URL: all before its last @, and what its query names a secret.

    A password may hold a slash, against the rules; so no parser is asked where it ends.
    """
    return _PARAMETER.sub(rf"\1{MASK}", _USER.sub(f"{MASK}@", url)) if "://" in url else url


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Take the text of every secret out of a message."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text
