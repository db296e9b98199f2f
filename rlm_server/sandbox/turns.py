"""Walks through the turns of a loop ahead of it, and tells the sub-calls that they will make.

What a turn does is followed statement by statement, as far as it can be told. Only calls that are
made unless something fails are told, and only where their prompts are known: where the way depends
on an answer, or something may leave the loop, nothing is told from there on.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .asks import CALL, appended_to, only_asks
from .effects import Effects, EndError
from .foreseen import Foreseen
from .known import ATOMS, TEXTS, UNKNOWN, UnknownError
from .nodes import walk

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LEAVING = (ast.Break, ast.Return, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)
MakeCall = Callable[..., dict[str, Any]]


class _NextError(Exception):
    """The turn ends here."""


class _PerhapsError(Exception):
    """The turn may end here, or go on."""


class Turns:
    """The turns of one loop, once over these items."""

    def __init__(
        self,
        loop: ast.For | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
        items: Iterable[Any],
        foreseen: Foreseen,
        *,
        walked: Any,
        make_call: MakeCall,
        asks: Callable[[Any], bool],
        over: Callable[[], bool],
    ) -> None:
        """``walked`` is what the loop goes through; ``asks`` tells ``llm_query`` itself.

        ``over`` tells that this has taken too long.
        """
        self._loop = loop
        self._items = items
        self._foreseen = foreseen
        self._effects = Effects(foreseen)
        self._walked = walked
        self._make_call = make_call
        self._asks = asks
        self._over = over
        self.number = 0
        """The turn that is being told, from 1."""
        self.certain = only_asks(loop)
        """Whether nothing that was told can be otherwise, unless a call fails."""

    @property
    def asks_more(self) -> bool:
        """Whether the turns that were told may make other sub-calls too."""
        return self._effects.asks

    def calls(self) -> Iterator[dict[str, Any]]:
        """Yield the calls, in the order in which they will be made, as long as they are sure."""
        try:
            for number, item in enumerate(self._items, 1):
                self.number = number
                if id(self._walked) in self._foreseen.changed or self._over():
                    return
                self._foreseen.begin_turn()
                try:
                    yield from self._turn(item)
                except _NextError:
                    continue
                except _PerhapsError:
                    self._forget_turn()
        except (EndError, RecursionError):
            return

    def _turn(self, item: Any) -> Iterator[dict[str, Any]]:
        loop = self._loop
        if isinstance(loop, ast.For):
            self._foreseen.bind(loop.target, item)
            yield from self._block(loop.body)
            return
        generator = loop.generators[-1]
        self._foreseen.bind(generator.target, item)
        for test in generator.ifs:
            value = yield from self._follow(test)
            if value is UNKNOWN:
                self._pass_over([loop])
                return
            if not value:
                return
        if isinstance(loop, ast.DictComp):
            self._is_key((yield from self._follow(loop.key)))
            yield from self._follow(loop.value)
        else:
            yield from self._follow(loop.elt)

    def _forget_turn(self) -> None:
        """Take note of whatever the rest of a turn may do."""
        assert isinstance(self._loop, ast.For)
        for statement in self._loop.body:
            self._effects.forget_names(statement)
            self._effects.note(statement)

    # ----------------------------------------------------------------------------- statements

    def _block(self, body: list[ast.stmt]) -> Iterator[dict[str, Any]]:
        for statement in body:
            if self._over():
                raise EndError
            yield from self._statement(statement)

    def _statement(self, node: ast.stmt) -> Iterator[dict[str, Any]]:
        if isinstance(node, ast.Expr) and (appended := appended_to(node)):
            yield from self._append(*appended)
        elif isinstance(node, ast.Expr):
            yield from self._follow(node.value)
        elif isinstance(node, ast.Assign):
            value = yield from self._follow(node.value)
            for target in node.targets:
                yield from self._assign(target, value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            value = yield from self._follow(node.value)
            yield from self._assign(node.target, value)
        elif isinstance(node, ast.AugAssign):
            yield from self._augment(node)
        elif isinstance(node, ast.If):
            yield from self._if(node)
        elif isinstance(node, ast.Try):
            yield from self._try(node)
        elif isinstance(node, (ast.For, ast.While)):
            if node.orelse:
                raise EndError
            if isinstance(node, ast.For):
                yield from self._follow(node.iter)
            self._pass_over([node], inner_loop=True)
        elif isinstance(node, ast.Continue):
            raise _NextError
        elif isinstance(node, (ast.Pass, ast.AnnAssign, *_SCOPES)):
            self._pass_over([node])
        else:  # break, return, raise, with, match, global, import and what is yet to come
            raise EndError

    def _append(self, target: ast.Name, node: ast.expr) -> Iterator[dict[str, Any]]:
        value = yield from self._follow(node)
        holder = self._effects.callee(target)
        self.certain = self.certain and type(holder) is list
        self._effects.change(target)
        self._effects.keep(value)
        if value is UNKNOWN:
            self._effects.change(node)

    def _is_dict(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and type(self._effects.callee(node)) is dict

    def _is_key(self, value: Any) -> None:
        self.certain = self.certain and (type(value) in ATOMS or type(value) in TEXTS)

    def _augment(self, node: ast.AugAssign) -> Iterator[dict[str, Any]]:
        if not isinstance(node.target, ast.Name):
            yield from self._follow(node.value)
            self._effects.change(node.target)
            return
        if _calls_in(node.value):
            yield from self._follow(node.value)
            result = UNKNOWN
        else:
            load = ast.Name(node.target.id, ast.Load())
            result = self._value(ast.BinOp(load, node.op, node.value))
            if isinstance(result, (list, dict, set)):  # changed in place, under other names too
                result = UNKNOWN
        if result is UNKNOWN:
            self._effects.change(node.target)
        self._foreseen.bind(node.target, result)

    def _assign(self, target: ast.expr, value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(target, (ast.Tuple, ast.List)):
            if not all(isinstance(each, ast.Name) for each in target.elts):
                raise EndError
        elif not isinstance(target, ast.Name):
            if isinstance(target, ast.Subscript):
                self._is_key((yield from self._follow(target.slice)))
                self.certain = self.certain and self._is_dict(target.value)
            self._effects.change(target)
            self._effects.keep(value)
            return
        self._foreseen.bind(target, value)

    def _if(self, node: ast.If) -> Iterator[dict[str, Any]]:
        test = yield from self._follow(node.test)
        if test is UNKNOWN:
            self._pass_over([*node.body, *node.orelse])
        else:
            yield from self._block(node.body if test else node.orelse)

    def _try(self, node: ast.Try) -> Iterator[dict[str, Any]]:
        """Follow what is tried; that it fails is not expected, but must not leave the loop."""
        rare = [statement for handler in node.handlers for statement in handler.body]
        for statement in rare:
            if any(isinstance(each, _LEAVING) for each in _own(statement)):
                raise EndError
        yield from self._block(node.body)
        yield from self._block(node.orelse)
        yield from self._block(node.finalbody)
        for statement in rare:
            self._effects.forget_names(statement)
            self._effects.note(statement)

    def _pass_over(self, nodes: list[Any], *, inner_loop: bool = False) -> None:
        """Take note of what these may bind and change, without knowing what they do."""
        for node in nodes:
            for each in _own(node):
                if isinstance(each, ast.Break) and inner_loop:
                    continue
                if isinstance(each, (*_LEAVING, ast.Global, ast.Nonlocal)):
                    raise EndError
                if isinstance(each, ast.Continue) and not inner_loop:
                    raise _PerhapsError
            self._effects.forget_names(node)
            self._effects.note(node)

    # ---------------------------------------------------------------------------- expressions

    def _value(self, node: ast.expr) -> Any:
        """What an expression without sub-calls gives, or UNKNOWN."""
        try:
            return self._foreseen.value(node)
        except UnknownError:
            self.certain = self.certain and self._is_there(node)
            self._effects.note(node)
            return UNKNOWN
        except Exception as error:  # the code will raise this itself
            raise EndError from error

    def _is_there(self, node: ast.expr) -> bool:
        """Whether it is made of answers and values that are there, and so raises nothing."""
        if isinstance(node, (ast.Tuple, ast.List)):
            return all(self._is_there(each) for each in node.elts)
        return isinstance(node, ast.Constant) or (
            isinstance(node, ast.Name) and node.id in self._foreseen.bound
        )

    def _follow(self, node: ast.expr) -> Any:
        """Yield the calls of an expression as they are made; return its value, or UNKNOWN."""
        if not _calls_in(node):
            return self._value(node)
        if isinstance(node, ast.Call):
            return (yield from self._follow_call(node))
        if isinstance(node, ast.BoolOp):
            return (yield from self._follow_boolean(node))
        if isinstance(node, ast.IfExp):
            test = yield from self._follow(node.test)
            if test is UNKNOWN:
                self._pass_over([node.body, node.orelse])
                return UNKNOWN
            return (yield from self._follow(node.body if test else node.orelse))
        if isinstance(node, _COMPREHENSIONS):  # a loop of its own
            yield from self._follow(node.generators[0].iter)
            self._pass_over([node])
            return UNKNOWN
        if isinstance(node, ast.NamedExpr):
            value = yield from self._follow(node.value)
            self._foreseen.bind(node.target, value)
            return value
        if isinstance(node, (ast.Lambda, *_LEAVING)):
            raise EndError
        for child in _in_order(node):
            yield from self._follow(child)
        return UNKNOWN

    def _follow_boolean(self, node: ast.BoolOp) -> Any:
        for number, each in enumerate(node.values):
            value = yield from self._follow(each)
            if value is UNKNOWN:
                self._pass_over(list(node.values[number + 1 :]))
                return UNKNOWN
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _follow_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == CALL:
            if not self._asks(self._effects.callee(node.func)):
                raise EndError
            call = yield from self._ask(node)
            if call is not None:
                self.certain = self.certain and len(node.args) + len(node.keywords) < 3
                yield call
            else:
                self._effects.asks, self.certain = True, False
            return UNKNOWN
        if not isinstance(node.func, ast.Name):
            yield from self._follow(node.func)
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from self._follow(each.value if isinstance(each, ast.Starred) else each)
        self._effects.note_call(node)
        return UNKNOWN

    def _ask(self, node: ast.Call) -> Any:
        """The call that ``llm_query`` will make, or None where that is not known."""
        args, named = [], {}
        for each in node.args:
            if isinstance(each, ast.Starred):
                return None
            args.append((yield from self._follow(each)))
        for keyword in node.keywords:
            if keyword.arg is None:
                return None
            named[keyword.arg] = yield from self._follow(keyword.value)
        if any(value is UNKNOWN for value in (*args, *named.values())):
            return None
        try:
            return self._make_call(*args, **named)
        except Exception as error:
            raise EndError from error


def _calls_in(node: ast.AST) -> bool:
    return any(
        isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == CALL
        for each in walk(node)
    )


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is below it, but nothing of the functions and classes that it defines."""
    yield node
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def _in_order(node: ast.expr) -> list[ast.expr]:
    """The expressions of which one is made, in the order of their evaluation."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [each for pair in pairs for each in pair if each is not None]
    if isinstance(node, ast.Compare) and len(node.comparators) > 1:
        return [node.left, node.comparators[0]]
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
