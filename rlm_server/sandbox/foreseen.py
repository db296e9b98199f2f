"""Evaluates expressions ahead of the code that they stand in: without effects, or not at all.

An expression is interpreted over the values that are there now. Whatever could do anything but
give a value (a method of a class that a cell has made, an object of unknown kind) is not touched:
its value is unknown then.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

from .documents import Document, Piece
from .known import (
    ATOMS,
    FUNCTIONS,
    ITERATING,
    KNOWN,
    LARGE,
    LISTS,
    OF_LISTS,
    OF_TEXT,
    TEXTS,
    UNKNOWN,
    UnknownError,
    as_made,
    bounded,
    elements,
    plain,
    short,
)
from .simple_functions import arguments, definition_of

_OF_DOCUMENTS = frozenset({(Document, "line_at"), (Piece, "line_at")})
_STEPS = 20_000  # nodes that one turn of a loop may need
_CALLS = 4  # functions of cells that call each other
_NUMBER = 1 << 64

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
}
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_CONVERSIONS: dict[int, Callable[[Any], Any]] = {
    -1: lambda value: value,
    115: str,
    114: repr,
    97: ascii,
}
_WIDE = re.compile(r"\d{6}")


class Foreseen:
    """Names and what they will be, as far as that is known."""

    def __init__(self, outer: Mapping[str, Any], namespace: Mapping[str, Any]) -> None:
        """Names are looked up in what is bound here, in ``outer``, then in ``namespace``."""
        self.bound: dict[str, Any] = {}
        self.changed: dict[int, Any] = {}
        """Values that will have been changed by then, by their identity."""
        self._outer = outer
        self._namespace = namespace
        self._steps = 0
        self._depth = 0

    def begin_turn(self) -> None:
        """Allow for another turn of the loop."""
        self._steps = 0

    def value(self, node: ast.AST) -> Any:
        """What an expression will give. Raises UnknownError, or what the expression raises."""
        self._steps += 1
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None or self._steps > _STEPS:
            raise UnknownError
        return self._checked(method(node))

    def look_up(self, name: str) -> Any:
        """What a name stands for, of whatever kind. Raises UnknownError."""
        for names in (self.bound, self._outer, self._namespace):
            if name in names:
                value = names[name]
                if value is UNKNOWN:
                    raise UnknownError
                return value
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        raise UnknownError

    def bind(self, target: ast.AST, value: Any) -> None:
        """Bind the names of an assignment's target; ``value`` may be UNKNOWN."""
        if isinstance(target, ast.Name):
            self.bound[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            parts = None
            if type(value) in (tuple, list) and len(value) == len(target.elts):
                parts = list(value)
            for number, each in enumerate(target.elts):
                self.bind(each, UNKNOWN if parts is None else parts[number])
        elif isinstance(target, ast.Starred):
            self.bind(target.value, UNKNOWN)

    # ---------------------------------------------------------------------------- expressions

    def _checked(self, value: Any) -> Any:
        if type(value) not in KNOWN or id(value) in self.changed:
            raise UnknownError
        if type(value) is int and not -_NUMBER < value < _NUMBER:
            raise UnknownError
        return value

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        return self.look_up(node.id)

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.value(each) for each in node.elts)

    def _list(self, node: ast.List) -> Any:
        return [self.value(each) for each in node.elts]

    def _dict(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise UnknownError
        return {
            self.value(k): self.value(v) for k, v in zip(node.keys, node.values, strict=True) if k
        }

    def _joinedstr(self, node: ast.JoinedStr) -> Any:
        return short("".join(self.value(each) for each in node.values))

    def _formattedvalue(self, node: ast.FormattedValue) -> Any:
        value = self._plainly(self.value(node.value))
        spec = self.value(node.format_spec) if node.format_spec else ""
        if _WIDE.search(spec):
            raise UnknownError
        return format(_CONVERSIONS[node.conversion](value), spec)

    def _binop(self, node: ast.BinOp) -> Any:
        act = _BINARY.get(type(node.op))
        left, right = self._plainly(self.value(node.left)), self._plainly(self.value(node.right))
        if act is None:
            raise UnknownError
        if isinstance(node.op, ast.Mult):
            bounded(left, right)
            bounded(right, left)
        if isinstance(node.op, ast.Mod) and isinstance(left, str):
            bounded("x", LARGE + 1 if _WIDE.search(left) or "*" in left else 1)
        return short(act(left, right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        act = _UNARY.get(type(node.op))
        if act is None:
            raise UnknownError
        return act(self.value(node.operand))

    def _boolop(self, node: ast.BoolOp) -> Any:
        value = None
        for each in node.values:
            value = self.value(each)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _compare(self, node: ast.Compare) -> Any:
        left = self._plainly(self.value(node.left))
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self._plainly(self.value(comparator))
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        value, key = self.value(node.value), self._plainly(self.value(node.slice))
        if type(value) not in ATOMS | TEXTS | LISTS | {dict}:
            raise UnknownError
        return value[key]

    def _slice(self, node: ast.Slice) -> Any:
        ends = (node.lower, node.upper, node.step)
        return slice(*(None if end is None else self.value(end) for end in ends))

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.value(node.value)
        if type(value) not in TEXTS or not as_made(type(value), node.attr):
            raise UnknownError
        return getattr(value, node.attr)

    def _listcomp(self, node: ast.ListComp) -> Any:
        return list(self._comprehended(node))

    def _generatorexp(self, node: ast.GeneratorExp) -> Any:
        return list(self._comprehended(node))

    def _comprehended(self, node: ast.ListComp | ast.GeneratorExp) -> Iterator[Any]:
        (generator, *more) = node.generators
        if more or generator.is_async:
            raise UnknownError
        items = elements(self.value(generator.iter))
        kept = dict(self.bound)  # the names of a comprehension are its own
        try:
            for item in items:
                self.bind(generator.target, item)
                if all(self.value(test) for test in generator.ifs):
                    yield self.value(node.elt)
        finally:
            self.bound = kept

    # ---------------------------------------------------------------------------------- calls

    def _call(self, node: ast.Call) -> Any:
        if any(isinstance(each, ast.Starred) for each in node.args):
            raise UnknownError
        if any(keyword.arg is None for keyword in node.keywords):
            raise UnknownError
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        if not isinstance(node.func, ast.Name):
            raise UnknownError
        function: Any = self.look_up(node.func.id)
        args = [self.value(each) for each in node.args]
        named = {str(keyword.arg): self.value(keyword.value) for keyword in node.keywords}
        if type(function) is FunctionType:
            return self._user_function(function, args, named)
        known = FUNCTIONS.get(node.func.id)
        if known is None or function is not known or named:
            raise UnknownError
        args = [self._plainly(each) if node.func.id != "len" else each for each in args]
        if node.func.id in ITERATING and args and type(args[0]) not in ATOMS:
            args[0] = elements(args[0])
        return short(known(*args))

    def _method(self, node: ast.Call, function: ast.Attribute) -> Any:
        value, name = self.value(function.value), function.attr
        args = [self._plainly(self.value(each)) for each in node.args]
        named = {str(k.arg): self._plainly(self.value(k.value)) for k in node.keywords}
        text = isinstance(value, str) and name in OF_TEXT
        of_list = type(value) in LISTS | {dict} and name in OF_LISTS
        if not text and not of_list and (type(value), name) not in _OF_DOCUMENTS:
            raise UnknownError
        if not as_made(type(value), name):
            raise UnknownError
        if name in ("index", "count"):  # which compare
            self._plainly(value)
        if name == "format" and _WIDE.search(value):
            raise UnknownError
        if name == "format" and re.search(r"[.\[]", value):  # may reach for attributes
            raise UnknownError
        if name == "replace" and len(args) > 1:
            bounded(args[1], len(value) + 1)
        if name == "join":
            if not all(isinstance(part, str) for part in elements(args[0])):
                raise UnknownError
            bounded(value, len(args[0]))
        return short(getattr(value, name)(*args, **named))

    def _user_function(self, function: FunctionType, args: list[Any], named: dict[str, Any]) -> Any:
        """Interpret a function that a cell has defined, if it is a simple one."""
        definition = definition_of(function)
        if definition is None or function.__closure__ or self._depth >= _CALLS:
            raise UnknownError
        if function.__globals__ is not self._namespace:
            raise UnknownError
        inner = Foreseen(arguments(function, definition, args, named), self._namespace)
        inner.changed = self.changed
        inner._depth, inner._steps = self._depth + 1, self._steps
        try:
            return inner._body(definition.body)
        finally:
            self._steps = inner._steps

    def _body(self, body: list[ast.stmt]) -> Any:
        result = self._statements(body)
        return None if result is UNKNOWN else result

    def _statements(self, body: list[ast.stmt]) -> Any:
        """What the statements return; UNKNOWN where they return nothing."""
        for statement in body:
            if isinstance(statement, ast.Return):
                return None if statement.value is None else self.value(statement.value)
            if isinstance(statement, ast.If):
                chosen = statement.body if self.value(statement.test) else statement.orelse
                if (result := self._statements(chosen)) is not UNKNOWN:
                    return result
            elif isinstance(statement, ast.Assign) and all(
                isinstance(target, ast.Name) for target in statement.targets
            ):
                value = self.value(statement.value)
                for target in statement.targets:
                    self.bind(target, value)
            elif not (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            ):
                raise UnknownError
        return UNKNOWN

    def _plainly(self, value: Any) -> Any:
        return plain(value, self.changed)
