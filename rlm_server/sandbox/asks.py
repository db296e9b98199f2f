"""The forms of loops in whose turns nothing can go wrong but the calls themselves.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast

from .nodes import walk

CALL = "llm_query"

Loop = ast.For | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def only_asks(loop: Loop) -> bool:
    """Whether each turn does nothing but ask, and keep what it got as it is."""
    if isinstance(loop, ast.For):
        return all(map(_keeps, loop.body))
    if isinstance(loop, ast.DictComp):
        return _is_kept(loop.value)
    return isinstance(loop, ast.ListComp) and _is_kept(loop.elt)


def appended_to(node: ast.Expr) -> tuple[ast.Name, ast.expr] | None:
    """The list and what is appended to it, where a statement does that."""
    call = node.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    target = call.func.value
    if call.func.attr != "append" or len(call.args) != 1 or call.keywords:
        return None
    return (target, call.args[0]) if isinstance(target, ast.Name) else None


def _keeps(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        appended = appended_to(node)
        return _is_kept(appended[1] if appended else node.value)
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return isinstance(node.targets[0], (ast.Name, ast.Subscript)) and _is_kept(node.value)
    return isinstance(node, ast.Pass)


def _is_kept(node: ast.expr) -> bool:
    """Whether it is an answer, a value that is told ahead, or a pair of such."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(map(_is_kept, node.elts))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == CALL:
        return not any(map(_asks, node.args)) and not any(_asks(k.value) for k in node.keywords)
    return not _asks(node)


def _asks(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Name) and each.id == CALL for each in walk(node))
