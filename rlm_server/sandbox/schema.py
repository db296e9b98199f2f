"""Checks values against the usual part of JSON Schema, and reads JSON out of a model's reply.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment"}
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_whole(value),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_FENCED = re.compile(r"^[ \t]*```[\w-]*[ \t]*\n(.*?)\n[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


def check_schema(schema: Any, where: str = "schema") -> None:
    """Raise ValueError, which names the place, for a schema with anything that is not checked."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"{where} has to be a dict, not {type(schema).__name__}")
    for keyword, rule in schema.items():
        if keyword in _NOTES:
            continue
        if keyword not in _RULES:
            known = ", ".join(sorted(_RULES))
            raise ValueError(f"{where}: {keyword!r} is not supported; supported are {known}")
        expected = _RULES[keyword][0]
        if not expected(rule):
            raise ValueError(f"{where}: {keyword!r} can't be {rule!r}")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}.properties.{name}")
    for number, part in enumerate(schema.get("anyOf", [])):
        check_schema(part, f"{where}.anyOf[{number}]")
    for keyword in ("items", "additionalProperties"):
        check_schema(schema.get(keyword, True), f"{where}.{keyword}")


def problems(value: Any, schema: Any, where: str = "$") -> Iterator[str]:
    """Yield what is wrong with a value, each with its place; nothing where it fits."""
    if schema is True:
        return
    if schema is False:
        yield f"{where} is not allowed"
        return
    for keyword, rule in schema.items():
        if keyword in _RULES:
            yield from _RULES[keyword][1](value, rule, where, schema)


def read_json(reply: str, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return the JSON value of a reply: bare, in a fenced block, or among a few words.

    ``hook`` makes objects of their pairs, as in ``json``. Raises ValueError where there is none.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=hook)
    for text in (reply, *reversed(_FENCED.findall(reply))):
        try:
            return decoder.decode(text.strip())
        except (ValueError, RecursionError):
            continue
    starts = sorted(at for at in (reply.find("{"), reply.find("[")) if at >= 0)
    for start in starts:
        try:
            return decoder.raw_decode(reply, start)[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError("the reply is not JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# ----------------------------------------------------------------------------------- the keywords


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


def _is_count(rule: Any) -> bool:
    return _is_number(rule) and rule >= 0


def _is_names(rule: Any) -> bool:
    return isinstance(rule, list) and all(isinstance(name, str) for name in rule)


def _is_type(rule: Any) -> bool:
    names = rule if isinstance(rule, list) else [rule]
    return bool(names) and all(isinstance(name, str) and name in _TYPES for name in names)


def _is_schema(rule: Any) -> bool:
    return isinstance(rule, (dict, bool))


def _is_pattern(rule: Any) -> bool:
    try:
        re.compile(rule)
    except (TypeError, re.error):
        return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (
        _is_number(one) and _is_number(other) and one == other
    )


def _of_type(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    names = [rule] if isinstance(rule, str) else rule
    if not any(_TYPES[name](value) for name in names):
        yield f"{where} has to be {' or '.join(names)}, not {json.dumps(value)[:60]}"


def _const(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    if not _same(value, rule):
        yield f"{where} has to be {json.dumps(rule)}"


def _enum(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    if not any(_same(value, one) for one in rule):
        yield f"{where} has to be one of {json.dumps(rule)}, not {json.dumps(value)[:60]}"


def _properties(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in rule:
            if name in value:
                yield from problems(value[name], rule[name], f"{where}.{name}")


def _others(value: Any, rule: Any, where: str, schema: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value:
            if name not in schema.get("properties", {}):
                yield from problems(value[name], rule, f"{where}.{name}")


def _required(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in rule:
            if name not in value:
                yield f"{where} has no {name!r}"


def _items(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from problems(item, rule, f"{where}[{number}]")


def _any_of(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    tried = [list(problems(value, part, where)) for part in rule]
    if all(tried):
        yield f"{where} fits none of {len(rule)} forms: " + "; or ".join(t[0] for t in tried)


def _matches(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
    if isinstance(value, str) and not re.search(rule, value):
        yield f"{where} has to match {rule!r}"


def _bound(
    kind: Any, size: Callable[[Any], Any], fits: Callable[[Any, Any], bool], said: str
) -> Any:
    """Make the rule of a keyword that limits a number or a length."""

    def check(value: Any, rule: Any, where: str, _: Any) -> Iterator[str]:
        if isinstance(value, kind) and not isinstance(value, bool) and not fits(size(value), rule):
            yield f"{where} has to be {said.format(rule)}"

    return check


_Rule = Callable[[Any, Any, str, Any], Iterator[str]]
_NUMBER = (int, float)
_RULES: dict[str, tuple[Callable[[Any], bool], _Rule]] = {
    "type": (_is_type, _of_type),
    "const": (lambda rule: True, _const),
    "enum": (lambda rule: isinstance(rule, list) and bool(rule), _enum),
    "properties": (lambda rule: isinstance(rule, dict), _properties),
    "additionalProperties": (_is_schema, _others),
    "required": (_is_names, _required),
    "items": (_is_schema, _items),
    "anyOf": (lambda rule: isinstance(rule, list) and bool(rule), _any_of),
    "pattern": (_is_pattern, _matches),
    "minimum": (_is_number, _bound(_NUMBER, lambda v: v, lambda v, r: v >= r, "at least {}")),
    "maximum": (_is_number, _bound(_NUMBER, lambda v: v, lambda v, r: v <= r, "at most {}")),
    "minLength": (_is_count, _bound(str, len, lambda v, r: v >= r, "at least {} characters long")),
    "maxLength": (_is_count, _bound(str, len, lambda v, r: v <= r, "at most {} characters long")),
    "minItems": (_is_count, _bound(list, len, lambda v, r: v >= r, "at least {} items long")),
    "maxItems": (_is_count, _bound(list, len, lambda v, r: v <= r, "at most {} items long")),
}
