"""A tool of an MCP server as a function: its schema as a signature, its result as a value."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_server.errors import ToolError
from rlm_server.text import clean, one_line
from rlm_server.tools.mcp import McpServer
from rlm_server.tools.mcp_messages import CallResult, Content, ToolDefinition
from rlm_server.tools.names import check_name, fit_name
from rlm_server.tools.tool import ToolInfo

SIGNATURE = 400
DOC = 300
"""Characters of what the server says of a tool that the model is shown."""

TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}

SLOW = ("pattern", "patternProperties", "unevaluatedProperties", "uniqueItems")
"""Rules of JSON Schema that are not looked at here."""

SHOWN = 2000
"""Characters of an error's text that are told."""


class McpTool:
    """One tool of one server."""

    def __init__(self, server: McpServer, definition: ToolDefinition) -> None:
        """Raises ConfigError for a name that no function can have."""
        where = f"[mcp.{server.name}]"
        name = fit_name(server.name, definition.name)
        check_name(name, f"{definition.name!r} of {where}")
        self._server = server
        self._definition = definition
        self._parameters = _parameters(definition.inputSchema)
        self._validator: Any = None
        self.info = ToolInfo(
            name=name,
            signature=one_line(f"({', '.join(self._parameters.values())})", SIGNATURE),
            doc=one_line(definition.description or "", DOC),
            source=where,
        )

    async def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """See ``Tool``; the server is told when its answer is not wanted any more."""
        arguments = self._bind(args, kwargs)
        await self._check(arguments)
        result = await self._server.call(self._definition.name, arguments)
        if result.isError:
            said = one_line(self._server.scrub(_text(result)), SHOWN)
            raise ToolError(f"{self.info.name} failed with {said or 'an error'}")
        return _value(result)

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = list(self._parameters)
        if len(args) > len(names):
            raise self._wrong(f"it takes {len(names)} arguments, and {len(args)} were given")
        arguments = dict(zip(names, args, strict=False))
        if twice := arguments.keys() & kwargs.keys():
            raise self._wrong(f"{', '.join(sorted(twice))} was given twice")
        return arguments | dict(kwargs)

    async def _check(self, arguments: dict[str, Any]) -> None:
        """Raise ToolError for arguments that don't fit the schema."""
        if self._validator is None:
            self._validator = await asyncio.to_thread(_validator, self._definition.inputSchema)
        # In a thread, for it may be megabytes that the model's code hands over.
        if wrong := await asyncio.to_thread(_wrong_in, self._validator, arguments):
            raise self._wrong(wrong)

    def _wrong(self, why: str) -> ToolError:
        called = f"{self.info.name}{self.info.signature}"
        return ToolError(f"{called} can't be called so: {one_line(why, SHOWN)}.")


def _validator(schema: dict[str, Any]) -> Any:
    """What checks arguments; imported when it is first needed, and never fetches anything.

    Rules that hostile text can make slow without end, regular expressions above all, are left to
    the server of the tool, which checks too.
    """
    jsonschema: Any = importlib.import_module("jsonschema")
    registry: Any = importlib.import_module("referencing").Registry()
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    further = kind.VALIDATORS.get("additionalProperties")

    def additional(validator: Any, rule: Any, value: Any, within: dict[str, Any]) -> Any:
        return () if "patternProperties" in within else further(validator, rule, value, within)

    left = dict.fromkeys(SLOW, lambda *_: ())
    kind = jsonschema.validators.extend(kind, {**left, "additionalProperties": additional})
    return kind(schema, registry=registry)


def _wrong_in(validator: Any, arguments: dict[str, Any]) -> str:
    """What is wrong with arguments; an empty string: nothing."""
    try:
        error = next(iter(validator.iter_errors(arguments)), None)
    except RecursionError:
        return "they are nested too deep"
    if error is None:
        return ""
    place = ".".join(map(str, error.absolute_path))
    return f"{place}: {error.message}" if place else str(error.message)


def _parameters(schema: dict[str, Any]) -> dict[str, str]:
    """How each parameter is written, by its name: those that are required first."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    first = [name for name in properties if name in required]
    last = [name for name in properties if name not in required]
    return {name: _shown(name, properties[name], name in required) for name in first + last}


def _shown(name: str, schema: Any, required: bool) -> str:
    schema = schema if isinstance(schema, dict) else {}
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    typed = " | ".join(TYPES[each] for each in kinds if each in TYPES)
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        typed = f"Literal{choices!r}"
    text = f"{name}: {typed}" if typed else name
    return (
        text if required else f"{text} = {schema.get('default', ...)!r}".replace("Ellipsis", "...")
    )


def _value(result: CallResult) -> Any:
    """The structured result where there is one, else its text."""
    structured = result.structuredContent
    if structured is None:
        return _text(result)
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        return structured["result"]  # how servers wrap what is no object
    return structured


def _text(result: CallResult) -> str:
    return clean("\n".join(map(_piece, result.content)))


def _piece(content: Content) -> str:
    return content.text if content.text is not None else f"[{content.type}, which is no text]"
