"""What a piece of code may change, so that nothing is told ahead by what was there before.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import builtins
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from .foreseen import Foreseen
from .known import ATOMS, READING, UNKNOWN, UnknownError
from .nodes import walk
from .reach import Reach
from .simple_functions import definition_of

_HARMLESS = frozenset({"json", "re", "math", "string", "textwrap", "time", "collections"})
_HARMLESS_BUILTINS = """abs all any ascii bool bytes chr dict divmod enumerate filter float format
    frozenset hash hex id int isinstance issubclass len list map max min oct ord pow print range
    repr reversed round set sorted str sum tuple type zip"""
_BUILTINS = frozenset(_HARMLESS_BUILTINS.split())

_CALLED_AT = {
    "map": slice(1),
    "filter": slice(1),
    "defaultdict": slice(1),
    "sub": slice(1, 2),
    "subn": slice(1, 2),
}
"""Arguments that are called, of those that are harmless themselves."""
_CALLED_AS = frozenset(("key", "repl", "default", "object_hook", "object_pairs_hook"))

ASKING = frozenset(
    ("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "map_reduce")
)


class EndError(Exception):
    """From here on nothing can be told."""


class Effects:
    """Notes in what is foreseen which names are bound and which objects changed."""

    def __init__(self, foreseen: Foreseen) -> None:
        self._foreseen = foreseen
        self._reach = Reach(foreseen.changed)
        self.asks = False
        """Whether the code may make sub-calls that are not told ahead."""

    def forget_names(self, node: ast.AST) -> None:
        """Count every name as unknown that a piece of code may bind."""
        for each in walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, (ast.Store, ast.Del)):
                self._foreseen.bound[each.id] = UNKNOWN
            elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self._foreseen.bound[each.name] = UNKNOWN
            elif isinstance(each, ast.ExceptHandler):
                self._foreseen.bound[each.name or ""] = UNKNOWN
            elif isinstance(each, ast.alias):
                self._foreseen.bound[(each.asname or each.name).partition(".")[0]] = UNKNOWN

    def callee(self, node: ast.Name) -> Any:
        """What a name that is called stands for, builtins included."""
        if self._foreseen.bound.get(node.id) is UNKNOWN:
            return UNKNOWN
        try:
            return self._foreseen.look_up(node.id)
        except UnknownError:
            return getattr(builtins, node.id, None)

    def note(self, node: ast.AST) -> None:
        """Take note of whatever a piece of code may change."""
        for each in walk(node):
            if isinstance(each, ast.Call):
                self.note_call(each)
            elif isinstance(each, (ast.Subscript, ast.Attribute)):
                if isinstance(each.ctx, (ast.Store, ast.Del)):
                    self.change(each)
            elif isinstance(each, ast.AugAssign):
                self.change(each.target)
            elif isinstance(each, ast.NamedExpr):
                self._foreseen.bound[each.target.id] = UNKNOWN
            elif isinstance(each, ast.Name) and hasattr(type(self.callee(each)), "__next__"):
                raise EndError  # what waits in it runs where it is gone on with

    def note_call(self, node: ast.Call) -> None:
        """Note what a call may change, besides what its arguments do. Raises EndError."""
        function = node.func
        if isinstance(function, ast.Attribute):
            if self._is_harmless_module(function.value):
                self._note_called_by(node)
                return
            if function.attr not in READING:
                self.change(function.value)
                self._change_arguments(node)
            return
        if not isinstance(function, ast.Name):
            raise EndError
        if function.id in _BUILTINS and self._is_builtin(function):
            self._note_called_by(node)
            return
        callee = self.callee(function)
        if isinstance(callee, FunctionType) and callee.__module__ == "__main__":
            self._change_arguments(node)
            self._note_function(callee)
        elif isinstance(callee, type) and callee.__module__ == "__main__":
            self._change_arguments(node)  # one of data alone, which keeps them
        elif not _is_ours(callee):
            raise EndError
        self.asks = self.asks or function.id in ASKING

    def _note_called_by(self, node: ast.Call) -> None:
        """Note what functions may change that are given to be called."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else _name(node.func)
        given = [keyword.value for keyword in node.keywords if keyword.arg in _CALLED_AS]
        for each in (*given, *node.args[_CALLED_AT.get(name, slice(0))]):
            value = self.callee(each) if isinstance(each, ast.Name) else UNKNOWN
            if isinstance(value, FunctionType) and value.__module__ == "__main__":
                self._change_arguments(node)
                self._note_function(value)
            elif isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
                if not any(
                    self.callee(each.value) is kind for kind in ATOMS
                ):  # str.lower changes nothing
                    raise EndError
            elif isinstance(each, ast.Name) and not isinstance(value, (*ATOMS, dict, list)):
                if not _is_ours(value) and not (each.id in _BUILTINS and self._is_builtin(each)):
                    raise EndError
            elif isinstance(each, (ast.Call, ast.Subscript, ast.Attribute)):
                raise EndError

    def _note_function(self, function: FunctionType) -> None:
        """Count all that a function of a cell names or keeps as changed; it may call others."""
        definition = definition_of(function)
        if definition is None:
            raise EndError
        self._mark(function)
        for each in walk(definition):
            if isinstance(each, (ast.Global, ast.Nonlocal)):
                raise EndError
            if isinstance(each, ast.Name):
                self.change(each)
                self.asks = self.asks or each.id in ASKING
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name):
                inner = self.callee(each.func)
                known = _is_ours(inner) or each.func.id in _BUILTINS
                if not known and inner is not function:
                    raise EndError

    def _is_builtin(self, node: ast.Name) -> bool:
        return self.callee(node) is getattr(builtins, node.id)

    def _is_harmless_module(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Name):
            return False
        value = self.callee(node)
        return isinstance(value, ModuleType) and value.__name__ in _HARMLESS

    def _change_arguments(self, node: ast.Call) -> None:
        for each in _arguments(node):
            if isinstance(each, (ast.Name, ast.Attribute, ast.Subscript)):
                self.change(each)

    def change(self, node: ast.expr) -> None:
        """Count the object as changed that an expression begins with, and all that it holds."""
        while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call)):
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name):
            value = self.callee(node)
            if not isinstance(value, FunctionType) and value is not UNKNOWN:
                self._mark(value)

    def keep(self, value: Any) -> None:
        """Count a value as changed that an object keeps, since it is changed where that is."""
        if value is not UNKNOWN and type(value) not in ATOMS:
            self._mark(value)

    def _mark(self, value: Any) -> None:
        if not self._reach.mark(value):
            raise EndError


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _is_ours(callee: Any) -> bool:
    """Whether it changes nothing that a cell has made: the vocabulary, and some of the library."""
    if isinstance(callee, MethodType):
        callee = callee.__func__
    if not isinstance(callee, (FunctionType, BuiltinFunctionType, type)):
        return False
    home = str(callee.__module__).partition(".")[0]
    return home in _HARMLESS or home == __name__.partition(".")[0]
