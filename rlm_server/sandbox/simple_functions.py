"""Functions that a cell has defined, found again by what their code remembers.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from .known import UnknownError
from .nodes import walk


def definition_of(function: FunctionType) -> ast.FunctionDef | None:
    """The definition of a function that stands in a cell, undecorated; None where it is not."""
    code = function.__code__
    return _definition(code) if code.co_filename.startswith("<cell ") else None


@lru_cache(256)
def _definition(code: CodeType) -> ast.FunctionDef | None:
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError, RecursionError):
        return None
    found = [
        node
        for node in walk(tree)
        if isinstance(node, ast.FunctionDef)
        and (node.name, node.lineno) == (code.co_name, code.co_firstlineno)
    ]
    return found[0] if len(found) == 1 and not found[0].decorator_list else None


def arguments(
    function: FunctionType, definition: ast.FunctionDef, args: list[Any], named: dict[str, Any]
) -> dict[str, Any]:
    """What the parameters are bound to in such a call. Raises UnknownError."""
    spec = definition.args
    if spec.vararg or spec.kwarg or spec.kwonlyargs:
        raise UnknownError
    names = [each.arg for each in (*spec.posonlyargs, *spec.args)]
    given = dict(zip(names, args, strict=False))
    if len(args) > len(names) or named.keys() & given.keys() or not named.keys() <= set(names):
        raise UnknownError
    given.update(named)
    defaults = function.__defaults__ or ()
    for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=True):
        given.setdefault(name, default)
    if given.keys() != set(names):
        raise UnknownError
    return given
