"""Checks values against JSON Schema: all of it that a model can be expected to keep to.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_ROUNDED = 1e-12  # part of a number that may be lost by rounding

_NOTES = {
    "title", "description", "default", "examples", "format", "deprecated", "readOnly", "writeOnly",
    "$schema", "$id", "$comment",
}  # fmt: skip
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_whole(value),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def check_schema(schema: Any, where: str = "schema", whole: Any = None) -> None:
    """Raise ValueError, which names the place, for a schema with anything that is not checked.

    ``whole`` is the schema that ``$ref`` points into, where that is not this one.
    """
    whole = schema if whole is None else whole
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
        for place, part in _parts(keyword, rule):
            check_schema(part, f"{where}.{keyword}{place}", whole)
    if "$ref" in schema:
        _follow(schema["$ref"], whole, f"{where}.$ref")


def _parts(keyword: str, rule: Any) -> list[tuple[str, Any]]:
    """The schemas that a keyword holds, each with its place in it."""
    if keyword in ("properties", "$defs", "definitions"):
        return [(f".{name}", part) for name, part in rule.items()]
    if keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [(f"[{number}]", part) for number, part in enumerate(rule)]
    return [("", rule)] if keyword in ("items", "additionalProperties", "not") else []


def _follow(reference: str, whole: Any, where: str) -> Any:
    """Return what a ``$ref`` within the schema means; raises ValueError where it means nothing."""
    seen: list[str] = []
    while True:
        if reference in seen or not reference.startswith("#"):
            raise ValueError(f"{where}: {reference!r} leads nowhere within the schema")
        seen.append(reference)
        part = whole
        for name in reference.lstrip("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(part, dict) or name not in part:
                raise ValueError(f"{where}: there is no {reference!r} in the schema")
            part = part[name]
        if not isinstance(part, dict) or "$ref" not in part:
            return part
        reference = part["$ref"]


def problems(value: Any, schema: Any, where: str = "$", whole: Any = None) -> Iterator[str]:
    """Yield what is wrong with a value, each with its place; nothing where it fits.

    ``whole`` is the schema that ``$ref`` points into, where that is not this one.
    """
    if whole is not None:
        yield from _problems(value, schema, where, whole)
        return
    try:
        yield from _problems(value, schema, where, schema)
    except RecursionError:
        yield f"{where} can't be checked: the value is too deep, or the schema refers to itself"


def _problems(value: Any, schema: Any, where: str, whole: Any) -> Iterator[str]:
    if schema is True:
        return
    if schema is False:
        yield f"{where} is not allowed"
        return
    for keyword, rule in schema.items():
        if keyword in _RULES:
            yield from _RULES[keyword][1](value, rule, where, schema, whole)


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


def _is_schemas(rule: Any) -> bool:
    return isinstance(rule, list) and bool(rule)


def _is_object(rule: Any) -> bool:
    return isinstance(rule, dict)


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


def _of_type(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    names = [rule] if isinstance(rule, str) else rule
    if not any(_TYPES[name](value) for name in names):
        yield f"{where} has to be {' or '.join(names)}, not {json.dumps(value)[:60]}"


def _const(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    if not _same(value, rule):
        yield f"{where} has to be {json.dumps(rule)}"


def _enum(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    if not any(_same(value, one) for one in rule):
        yield f"{where} has to be one of {json.dumps(rule)}, not {json.dumps(value)[:60]}"


def _properties(value: Any, rule: Any, where: str, _: Any, whole: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in rule:
            if name in value:
                yield from problems(value[name], rule[name], f"{where}.{name}", whole)


def _others(value: Any, rule: Any, where: str, schema: Any, whole: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value:
            if name not in schema.get("properties", {}):
                yield from problems(value[name], rule, f"{where}.{name}", whole)


def _required(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in rule:
            if name not in value:
                yield f"{where} has no {name!r}"


def _items(value: Any, rule: Any, where: str, schema: Any, whole: Any) -> Iterator[str]:
    if isinstance(value, list):
        first = len(schema.get("prefixItems", []))
        for number, item in enumerate(value[first:], first):
            yield from problems(item, rule, f"{where}[{number}]", whole)


def _first_items(value: Any, rule: Any, where: str, _: Any, whole: Any) -> Iterator[str]:
    if isinstance(value, list):
        for number, (item, part) in enumerate(zip(value, rule, strict=False)):
            yield from problems(item, part, f"{where}[{number}]", whole)


def _any_of(value: Any, rule: Any, where: str, _: Any, whole: Any) -> Iterator[str]:
    tried = [list(problems(value, part, where, whole)) for part in rule]
    if all(tried):
        yield f"{where} fits none of {len(rule)} forms: " + "; or ".join(t[0] for t in tried)


def _one_of(value: Any, rule: Any, where: str, schema: Any, whole: Any) -> Iterator[str]:
    yield from _any_of(value, rule, where, schema, whole)
    fitting = [n for n, part in enumerate(rule) if not any(problems(value, part, where, whole))]
    if len(fitting) > 1:
        yield f"{where} fits {len(fitting)} forms, but has to fit only one"


def _all_of(value: Any, rule: Any, where: str, _: Any, whole: Any) -> Iterator[str]:
    for part in rule:
        yield from problems(value, part, where, whole)


def _not(value: Any, rule: Any, where: str, _: Any, whole: Any) -> Iterator[str]:
    if not any(problems(value, rule, where, whole)):
        yield f"{where} must not fit {json.dumps(rule)[:80]}"


def _reference(value: Any, rule: Any, where: str, _: Any, whole: Any) -> Iterator[str]:
    yield from problems(value, _follow(rule, whole, where), where, whole)


def _nothing(*_: Any) -> Iterator[str]:
    yield from ()


def _unique(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    if rule and isinstance(value, list):
        keys = [json.dumps(item, sort_keys=True) for item in value]
        if len(set(keys)) < len(keys):
            yield f"{where} has the same item twice"


def _multiple(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    if _is_number(value) and not _is_multiple(value, rule):
        yield f"{where} has to be a multiple of {rule}"


def _is_multiple(value: Any, rule: Any) -> bool:
    """Whether it is, as far as floating-point numbers can tell: 0.3 is a multiple of 0.1."""
    if isinstance(value, int) and _is_whole(rule):
        return value % int(rule) == 0
    try:
        times = value / rule
        return bool(abs(times - round(times)) <= _ROUNDED * max(1.0, abs(times)))
    except OverflowError:  # beyond all floating-point numbers, or infinite
        return False


def _matches(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
    if isinstance(value, str) and not re.search(rule, value):
        yield f"{where} has to match {rule!r}"


def _bound(
    kind: Any, size: Callable[[Any], Any], fits: Callable[[Any, Any], bool], said: str
) -> Any:
    """Make the rule of a keyword that limits a number or a length."""

    def check(value: Any, rule: Any, where: str, *_: Any) -> Iterator[str]:
        if isinstance(value, kind) and not isinstance(value, bool) and not fits(size(value), rule):
            yield f"{where} has to be {said.format(rule)}"

    return check


_Rule = Callable[[Any, Any, str, Any, Any], Iterator[str]]
_NUMBER = (int, float)
_RULES: dict[str, tuple[Callable[[Any], bool], _Rule]] = {
    "type": (_is_type, _of_type),
    "const": (lambda rule: True, _const),
    "enum": (lambda rule: isinstance(rule, list) and bool(rule), _enum),
    "properties": (_is_object, _properties),
    "additionalProperties": (_is_schema, _others),
    "required": (_is_names, _required),
    "items": (_is_schema, _items),
    "prefixItems": (_is_schemas, _first_items),
    "anyOf": (_is_schemas, _any_of),
    "oneOf": (_is_schemas, _one_of),
    "allOf": (_is_schemas, _all_of),
    "not": (_is_schema, _not),
    "$ref": (lambda rule: isinstance(rule, str), _reference),
    "$defs": (_is_object, _nothing),
    "definitions": (_is_object, _nothing),
    "uniqueItems": (lambda rule: isinstance(rule, bool), _unique),
    "multipleOf": (lambda rule: _is_number(rule) and rule > 0, _multiple),
    "pattern": (_is_pattern, _matches),
    "minimum": (_is_number, _bound(_NUMBER, lambda v: v, lambda v, r: v >= r, "at least {}")),
    "maximum": (_is_number, _bound(_NUMBER, lambda v: v, lambda v, r: v <= r, "at most {}")),
    "exclusiveMinimum": (
        _is_number,
        _bound(_NUMBER, lambda v: v, lambda v, r: v > r, "more than {}"),
    ),
    "exclusiveMaximum": (
        _is_number,
        _bound(_NUMBER, lambda v: v, lambda v, r: v < r, "less than {}"),
    ),
    "minProperties": (_is_count, _bound(dict, len, lambda v, r: v >= r, "at least {} fields long")),
    "maxProperties": (_is_count, _bound(dict, len, lambda v, r: v <= r, "at most {} fields long")),
    "minLength": (_is_count, _bound(str, len, lambda v, r: v >= r, "at least {} characters long")),
    "maxLength": (_is_count, _bound(str, len, lambda v, r: v <= r, "at most {} characters long")),
    "minItems": (_is_count, _bound(list, len, lambda v, r: v >= r, "at least {} items long")),
    "maxItems": (_is_count, _bound(list, len, lambda v, r: v <= r, "at most {} items long")),
}
