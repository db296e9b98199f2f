from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.sandbox.json_reply import read_json
from rlm_server.sandbox.schema import check_schema, problems

PERSON = {
    "title": "A person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["a", 1, None]},
        "one": {"const": True},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        "either": {"anyOf": [{"type": "null"}, {"type": ["number", "boolean"]}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ada"},
        {"name": "Ada", "age": 36.0, "kind": 1, "one": True, "tags": ["x"], "either": 0.5},
        {"name": "Ada", "kind": None, "either": None},
        {"name": "Ada", "kind": 1.0, "either": False},
    ],
)
def test_what_fits_has_no_problems(value: Any) -> None:
    check_schema(PERSON)
    assert list(problems(value, PERSON)) == []


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"age": 1.5}, "$.age has to be integer, not 1.5"),
        ({"age": True}, "$.age has to be integer, not true"),
        ({"age": -1}, "$.age has to be at least 0"),
        ({"age": 151}, "$.age has to be at most 150"),
        ({"name": ""}, "$.name has to be at least 1 characters long"),
        ({"name": "Abcdefghij"}, "$.name has to be at most 9 characters long"),
        ({"name": "ada"}, "$.name has to match '^[A-Z]'"),
        ({"name": 5}, "$.name has to be string, not 5"),
        ({"kind": True}, '$.kind has to be one of ["a", 1, null], not true'),
        ({"one": 1}, "$.one has to be true"),
        ({"tags": []}, "$.tags has to be at least 1 items long"),
        ({"tags": ["a", "b", "c"]}, "$.tags has to be at most 2 items long"),
        ({"tags": ["a", 2]}, "$.tags[1] has to be string, not 2"),
        ({"either": "x"}, "$.either fits none of 2 forms"),
        ({"more": 1}, "$.more is not allowed"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(part: Any, problem: str) -> None:
    [found] = [p for p in problems({"name": "Ada", **part}, PERSON) if p.startswith(problem)]
    assert found


TREE = {
    "$defs": {"node": {
        "type": "object",
        "properties": {"name": {"type": "string", "format": "date"},
                       "below": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        "required": ["name"],
    }},
    "$ref": "#/$defs/node",
}  # fmt: skip


def test_a_schema_may_refer_to_its_parts_and_to_itself() -> None:
    check_schema(TREE)
    assert list(problems({"name": "a", "below": [{"name": "b", "below": []}]}, TREE)) == []
    assert list(problems({"name": "a", "below": [{"name": "b", "below": [{}]}]}, TREE)) == [
        "$.below[0].below[0] has no 'name'"
    ]


@pytest.mark.parametrize(
    ("schema", "fits", "does_not", "problem"),
    [
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, 4, 6, "fits 2 forms"),
        ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, None, "x", "fits none of 2 forms"),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4, "at most 3"),
        ({"not": {"type": "string"}}, 1, "x", "must not fit"),
        ({"exclusiveMinimum": 1}, 1.5, 1, "more than 1"),
        ({"exclusiveMaximum": 1}, 0, 1, "less than 1"),
        ({"multipleOf": 0.5}, 1.5, 1.2, "a multiple of 0.5"),
        ({"uniqueItems": True}, [1, 2], [1, 1], "the same item twice"),
        ({"minProperties": 1}, {"a": 1}, {}, "at least 1 fields"),
        ({"maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}, "at most 1 fields"),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1], ["a", "b"],
         r"$[1] has to be integer"),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1],
         "$[1] is not allowed"),
    ],
)  # fmt: skip
def test_the_less_usual_keywords(schema: Any, fits: Any, does_not: Any, problem: str) -> None:
    check_schema(schema)
    assert list(problems(fits, schema)) == []
    assert problem in " ".join(problems(does_not, schema))


def test_what_is_required() -> None:
    assert list(problems({}, PERSON)) == ["$ has no 'name'"]
    assert list(problems([], PERSON)) == ["$ has to be object, not []"]
    assert list(problems({"x": 1}, {"additionalProperties": {"type": "string"}})) == [
        "$.x has to be string, not 1"
    ]


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"contains": {}}, "'contains' is not supported; supported are "),
        ({"properties": {"a": {"if": {}}}}, "schema.properties.a: 'if' is not"),
        ({"items": {"oneOf": []}}, "schema.items: 'oneOf' can't be"),
        ({"anyOf": [{"not": {"then": 1}}]}, r"schema.anyOf\[0\].not: 'then' is not"),
        ({"$ref": "#/$defs/gone"}, r"schema.\$ref: there is no '#/\$defs/gone'"),
        ({"$ref": "https://example.org/schema"}, "leads nowhere within the schema"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "leads nowhere"),
        ({"$defs": {"a": {"type": "text"}}}, r"schema.\$defs.a: 'type' can't be"),
        ({"multipleOf": 0}, "'multipleOf' can't be 0"),
        ({"type": "text"}, "'type' can't be 'text'"),
        ({"type": {}}, "'type' can't be {}"),
        ({"type": []}, "'type' can't be"),
        ({"pattern": "("}, "'pattern' can't be"),
        ({"required": "name"}, "'required' can't be"),
        ({"minLength": -1}, "'minLength' can't be"),
        ({"anyOf": []}, "'anyOf' can't be"),
        ({"properties": {"a": "string"}}, "schema.properties.a has to be a dict"),
        ("string", "schema has to be a dict"),
    ],
)
def test_schemas_that_could_not_be_checked_are_refused(schema: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_schema(schema)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (' {"a": [1]} ', {"a": [1]}),
        ("5", 5),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Think: {x}\n```\n{"a": 1}\n```\nDone', {"a": 1}),
        ('Here [see] it is: {"a": 1}. Good?', {"a": 1}),
        ("The list: [1, 2] as asked", [1, 2]),
    ],
)
def test_json_is_found_in_replies(reply: str, value: Any) -> None:
    assert read_json(reply) == value


@pytest.mark.parametrize("reply", ["", "none", '{"a": ', "NaN", '{"a": Infinity}', "[" * 100_000])
def test_what_is_not_json_is_said(reply: str) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        read_json(reply)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_const_and_enum_are_equality(value: Any, other: Any) -> None:
    assert list(problems(value, {"const": value})) == []
    assert list(problems(value, {"enum": [other, value]})) == []
    assert bool(list(problems(value, {"const": [value, other]})))


def test_a_schema_that_only_refers_to_itself_is_told() -> None:
    schema = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    check_schema(schema)
    assert "refers to itself" in " ".join(problems(1, schema))


@pytest.mark.parametrize(
    ("value", "rule", "fits"),
    [(0.3, 0.1, True), (1.1, 0.1, True), (0.35, 0.1, False), (10**400, 1, True),
     (10**400 + 1, 2, False), (10**400, 0.5, False), (7, 2.0, False), (1e300, 1e-300, False)],
)  # fmt: skip
def test_multiples_are_told_in_spite_of_rounding(value: Any, rule: Any, fits: bool) -> None:
    assert (not list(problems(value, {"multipleOf": rule}))) == fits


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('As in [1], the result is {"a": 1}.', {"a": 1}),
        ('{"a": [1, 2, {"b": 3}]} is the result of {"c": 4}.', {"a": [1, 2, {"b": 3}]}),
        ("Of {these} it is [1, 2].", [1, 2]),
    ],
)
def test_the_longest_value_among_words_is_meant(reply: str, value: Any) -> None:
    assert read_json(reply) == value
