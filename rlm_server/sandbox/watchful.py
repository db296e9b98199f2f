"""Code that could tell what is done ahead, or whose effects can't be seen.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from types import NoneType

from .nodes import walk

_FRAMES = frozenset(("locals", "vars", "f_locals", "_getframe", "currentframe", "settrace"))
_LIFETIMES = frozenset(("weakref", "gc", "getrefcount", "tracemalloc"))
may_make_objects = re.compile(rf"class|for|type|__|{'|'.join(_LIFETIMES)}").search
"""Whether it is worth the time to look closer at code."""


def watches_frames(tree: ast.Module) -> bool:
    """Whether a cell looks at local variables, as is done for loops that are told ahead."""
    return not _FRAMES.isdisjoint(_names(tree))


def makes_objects(tree: ast.Module) -> bool:
    """Whether a cell makes objects that run code where no call is seen, or can tell their end.

    Such are those of classes with methods, and generators that wait.
    """
    used_up = set[int]()
    for node in walk(tree):  # what uses a generator up comes before it
        found = False
        if isinstance(node, (ast.For, ast.comprehension)):
            used_up.add(id(node.iter))
        elif isinstance(node, ast.Call):
            used_up.update(map(id, node.args))
            found = (
                isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) > 1
            )
        elif isinstance(node, ast.ClassDef):
            found = not _holds_data_only(node)
        elif isinstance(node, ast.Attribute):
            found = isinstance(node.ctx, ast.Store) and node.attr.startswith("__")
        elif isinstance(node, ast.GeneratorExp):
            found = id(node) not in used_up
        if found:
            return True
    return not _LIFETIMES.isdisjoint(_names(tree))


def _holds_data_only(node: ast.ClassDef) -> bool:
    """Whether a class has fields and constants alone, as dataclasses and enumerations have."""
    return not node.keywords and all(
        isinstance(each, (ast.AnnAssign, ast.Assign, ast.Expr, ast.Pass))
        and isinstance(getattr(each, "value", None), (ast.Constant, NoneType))
        for each in node.body
    )


def _names(tree: ast.Module) -> Iterator[str]:
    for node in walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
