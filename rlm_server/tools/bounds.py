"""How much may go into a tool and come out of it, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rlm_server.errors import ToolError

MOST_IN = 1_000_000
"""Characters of a call's arguments."""

MOST_OUT = 1_000_000
"""Characters of a call's result."""

DEEPEST = 100
"""Lists and dicts within each other, in arguments: more is an attack on whoever walks them."""


class Arguments(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of a call as the sandbox sends them."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


_arguments = msgspec.json.Decoder(Arguments)
_encoder = msgspec.json.Encoder()


def decode_arguments(text: str) -> Arguments:
    """Read arguments that a stranger's code has sent. Raises ToolError."""
    if len(text) > MOST_IN:
        raise ToolError(
            f"The arguments are too long: {len(text):,} characters (limit {MOST_IN:,}).",
            cure="Pass a part of the text.",
        )
    try:
        arguments = _arguments.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ToolError("The arguments are no JSON of the right form.") from None
    if _deeper(arguments.args, DEEPEST) or _deeper(arguments.kwargs, DEEPEST):
        raise ToolError(f"The arguments are nested more than {DEEPEST} times.")
    return arguments


def encode_result(value: Any, tool: str) -> str:
    """A result as JSON. Raises ToolError where it can't be, or is too long."""
    try:
        text = _encoder.encode(value).decode()
    except Exception as error:  # whatever the properties of a stranger's object raise
        raise ToolError(
            f"{tool} returned what can't be sent as JSON: {type(error).__name__}.",
            cure="Let it return text, numbers, lists and dicts.",
        ) from None
    if len(text) > MOST_OUT:
        raise ToolError(
            f"{tool} returned {len(text):,} characters (limit {MOST_OUT:,}).",
            cure="Ask it for less.",
        )
    return text


def _deeper(value: Any, levels: int) -> bool:
    """Whether there are more levels; walks level by level, since the text may be very deep."""
    layer: Sequence[Any] = [value]
    while layer and levels >= 0:
        layer = [inner for each in layer for inner in _inside(each)]
        levels -= 1
    return bool(layer)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
