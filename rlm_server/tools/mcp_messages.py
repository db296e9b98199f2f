"""The messages of the Model Context Protocol, as far as a client of tools needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rlm_server import __version__
from rlm_server.errors import ToolError
from rlm_server.text import one_line

VERSION = "2025-06-18"
"""The revision that we speak; a server may answer with another one that it prefers."""

INITIALIZE: dict[str, Any] = {
    "protocolVersion": VERSION,
    "capabilities": {},
    "clientInfo": {"name": "rlm", "version": __version__},
}
INITIALIZED = "notifications/initialized"
CANCELLED = "notifications/cancelled"

SHOWN = 2000
"""Characters of what a server says in an error."""


class Error(msgspec.Struct):
    """Why a request failed."""

    code: int = 0
    message: str = ""


class Answer(msgspec.Struct):
    """What a server says: the answer to a request, a request of its own, or a notification."""

    id: int | str | None = None
    method: str | None = None
    result: dict[str, Any] | None = None
    error: Error | None = None


class ToolDefinition(msgspec.Struct):
    """A tool as a server describes it."""

    name: str
    description: str | None = None
    inputSchema: dict[str, Any] = {}  # noqa: N815 - the protocol's name


class ToolList(msgspec.Struct):
    """The result of ``tools/list``; there is more where a cursor is given."""

    tools: list[ToolDefinition]
    nextCursor: str | None = None  # noqa: N815 - the protocol's name


class Content(msgspec.Struct):
    """A piece of a result; only text has any use here."""

    type: str = ""
    text: str | None = None


class CallResult(msgspec.Struct):
    """The result of ``tools/call``."""

    content: list[Content] = []
    structuredContent: Any = None  # noqa: N815 - the protocol's name
    isError: bool = False  # noqa: N815 - the protocol's name


_answer = msgspec.json.Decoder(Answer)


def message(method: str, params: Mapping[str, Any], number: int | None = None) -> bytes:
    """A request, or without a number a notification."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if number is not None:
        body["id"] = number
    return msgspec.json.encode(body)


def answer_in(data: bytes) -> Answer:
    """Read a message. Raises msgspec.MsgspecError."""
    try:
        return _answer.decode(data)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deep") from None


def answer_to(asked: Answer) -> bytes:
    """The answer to a request of the server's: only a ping is for us."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.id}
    if asked.method == "ping":
        return msgspec.json.encode({**body, "result": {}})
    return msgspec.json.encode({**body, "error": {"code": -32601, "message": "not supported"}})


def result_of(answer: Answer, where: str) -> dict[str, Any]:
    """The result in an answer. Raises ToolError where it is an error."""
    if answer.error is not None:
        said = one_line(answer.error.message, SHOWN)
        raise ToolError(f"{where} refused: {said or answer.error.code}.")
    return answer.result or {}
