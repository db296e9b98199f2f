"""Finds the loops of a cell that make sub-calls, and has each told what it will go through.

Only the iterable of a loop is changed: into a call that returns it as it is. Line numbers, scopes
and whatever the loop does remain.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

from .asks import CALL, Loop
from .nodes import walk

AHEAD = "__rlm_ahead__"
"""The function that is told, among the builtins; called with the loop's number, what the loop goes
through, and the local variables."""
LOCALS = "__rlm_locals__"
"""``locals``, whatever a cell has made of that name."""

_USED_UP_BY = frozenset(
    ("list", "tuple", "set", "frozenset", "dict", "sorted", "sum", "max", "min")
)


def find_loops(tree: ast.Module, number: int) -> list[Loop]:
    """Return the loops of a cell as they were written, numbered from ``number``; change them."""
    used_up = {
        id(node.args[0])
        for node in walk(tree)
        if isinstance(node, ast.Call) and len(node.args) == 1 and _uses_up(node.func)
    }
    found: list[Loop] = []
    for node in walk(tree):
        if not isinstance(node, Loop) or not _calls(node):
            continue
        if isinstance(node, ast.GeneratorExp) and id(node) not in used_up:
            continue  # it may be asked for a few only
        if not isinstance(node, ast.For) and any(each.is_async for each in node.generators):
            continue
        found.append(node)
    originals = copy.deepcopy(found)
    for place, node in enumerate(found):
        holder = node if isinstance(node, ast.For) else node.generators[-1]
        holder.iter = _told(holder.iter, number + place)
    return originals


def _uses_up(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in _USED_UP_BY
    if not isinstance(function, ast.Attribute):
        return False
    return function.attr == "join" and isinstance(function.value, ast.Constant)


def _calls(loop: Loop) -> bool:
    """Whether each turn may call, itself and not in a loop or function inside of it."""
    if isinstance(loop, ast.For):
        return any(_calls_itself(node) for node in loop.body)
    parts: list[ast.AST] = [*loop.generators[-1].ifs]
    parts += [loop.key, loop.value] if isinstance(loop, ast.DictComp) else [loop.elt]
    return any(_calls_itself(node) for node in parts)


def _calls_itself(node: ast.AST) -> bool:
    if isinstance(node, (Loop, ast.While, ast.AsyncFor, ast.FunctionDef, ast.ClassDef, ast.Lambda)):
        return False
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == CALL:
        return True
    return any(map(_calls_itself, ast.iter_child_nodes(node)))


def _told(iterable: ast.expr, number: int) -> ast.expr:
    def name(of: str) -> ast.expr:
        return ast.Name(of, ast.Load())

    args: list[Any] = [ast.Constant(number), iterable, ast.Call(name(LOCALS), [], [])]
    call = ast.Call(name(AHEAD), args, [])
    for node in (call, call.func, args[0], args[2], args[2].func):
        ast.copy_location(node, iterable)
    return call
