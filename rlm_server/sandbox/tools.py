"""Tools, as the model's code sees them: functions whose calls the server answers.

Runs inside the sandbox: standard library only. Which tools there are, the server decides; a call
that is made in another way finds no other ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .channel import AbandonedError, Channel, clean

_DEEPEST = 100


class ToolError(Exception):
    """A tool was called wrongly, or failed; the message says how."""


ToolError.__module__ = "__main__"  # so that tracebacks and reprs show the bare name


def functions(channel: Channel, tools: list[dict[str, str]]) -> dict[str, Any]:
    """Return what the tools are called in the namespace; nothing where there are none."""
    made = {tool["name"]: _function(channel, **tool) for tool in tools}
    return {**made, "ToolError": ToolError} if made else {}


def _function(channel: Channel, name: str, signature: str, doc: str) -> Callable[..., Any]:
    def tool(*args: Any, **kwargs: Any) -> Any:
        given = {"args": _plain(args, name), "kwargs": _plain(kwargs, name)}
        arguments = json.dumps(given, ensure_ascii=False)
        call = {"function": "tool", "prompt": arguments, "model": None, "tool": name}
        try:
            reply = channel.ask([call])[0]
        except AbandonedError as ended:
            raise ToolError(str(ended)) from None
        if reply["error"] is not None:
            error = reply["error"]
            raise ToolError(f"{error['message']} {error['cure']}".strip())
        return json.loads(reply["text"])

    tool.__name__ = tool.__qualname__ = name
    tool.__module__ = "__main__"
    tool.__doc__ = f"{name}{signature}\n\n{doc}".strip()
    return tool


def _plain(value: Any, name: str, depth: int = 0) -> Any:
    """Return a value as what JSON has; a text that is mapped becomes a real one."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and value - value == 0.0:  # neither infinite nor no number
        return value
    if isinstance(value, str):
        return clean(str(value))
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [_plain(each, name, depth + 1) for each in value]
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {_key(key, name): _plain(each, name, depth + 1) for key, each in value.items()}
    raise TypeError(f"{name} takes what JSON has (text, numbers, lists, dicts), not {value!r:.100}")


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{name} takes dicts whose keys are text, not {key!r:.100}")
    return clean(str(key))
