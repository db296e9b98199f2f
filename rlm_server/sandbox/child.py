"""The namespace of a run, and how a cell is run in it.

Runs inside the sandbox: standard library only. Everything here may be tampered with by the code
that it runs; the server believes none of it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # without the enumerations, which take longer
import _sitebuiltins
import ast
import builtins
import io
import linecache
import mmap
import os
import resource
import signal
import sys
import traceback
from types import CodeType, ModuleType
from typing import Any

from .answer import bounded
from .batching import Batching
from .channel import Channel, Interrupts, clean
from .describe import look
from .documents import Document
from .fixed import fixed
from .mapped_text import Context
from .nodes import walk
from .printed import Printed, Recorder, print_whole
from .reading import Reading, shown_of
from .subcalls import SubcallAnswer, SubcallError, SubcallFailure
from .tools import functions
from .variables import Shown, Variables
from .vocabulary import Helpers
from .waiting import Waiting

_RESERVE = 8 << 20
_VALUE_LIMIT = 200_000
_OURS = os.path.dirname(__file__)
_LIBRARY = os.path.dirname(os.__file__) + "/"
_USUAL = "x = len('context')\nfor y in [x]:\n    print(f'{y}', 'characters')\nx"


class Repl:
    """One namespace, and the vocabulary that the model's code finds in it."""

    def __init__(
        self,
        channel: Channel,
        interrupts: Interrupts,
        context: Context,
        tools: list[dict[str, str]],
    ) -> None:
        self._channel = channel
        self._interrupts = interrupts
        self._recorder = Recorder(channel)
        self._waiting = Waiting(channel.wait_until_sure)
        self._stdout = Printed(self._recorder, "stdout")
        self._stderr = Printed(self._recorder, "stderr")
        builtins.print = print_whole
        builtins.help = _sitebuiltins._Helper()  # which comes with ``site``, left out here
        self._final: list[Any] = []
        main = sys.modules["__main__"] = ModuleType("__main__")
        self.namespace: dict[str, Any] = vars(main)  # where pickle looks for classes of cells
        self._reading = Reading(context)
        self._helpers = Helpers(context, channel, self._reading)
        self._batching = Batching(self._helpers.asking, self.namespace)
        self._offered = offered = dict[str, Any]()
        self._variables = Variables(self.namespace, offered)
        offered.update(
            self._helpers.vocabulary(),
            context=context,
            answer=_no_answer(),
            FINAL=self._say_final,
            FINAL_VAR=self._say_final_variable,
            SHOW_VARS=self._variables.show,
            memory_status=self._variables.memory_status,
            forget=self._variables.forget,
            Document=Document,
            SubcallError=SubcallError,
            SubcallAnswer=SubcallAnswer,
            SubcallFailure=SubcallFailure,
            **functions(channel, tools),
        )
        self.namespace.update(offered)

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Run a cell and return what is to be said of it; the output has been sent by then."""
        self._final = []
        if order["renew"]:
            self._offered["answer"] = self.namespace["answer"] = _no_answer()
        if order.get("refused"):
            self._reopen()
        self._recorder.start()
        if order["before"]:
            self._helpers.complete(order["before"])
        done: dict[str, Any] = {"type": "done", "token": order["token"], "memory": False}
        fixed.begin(order["now"], order["seed"])
        sys.stdout, sys.stderr, sys.stdin = self._stdout, self._stderr, io.StringIO()
        _signal.signal(_signal.SIGINT, self._interrupts.handler)
        try:
            try:
                self._interrupts.armed = True
                if order["early"]:
                    self._waiting.begin()
                name = f"<cell {order['cell']}>"
                self._batching.spare = order["spare"]
                self._execute(order["code"], name, batch=order["batch"])
                done["error"] = ""
                done["answer"], done["ready"] = self._answer()
                self._interrupts.armed = False
            except BaseException as error:
                self._interrupts.disarm()
                done["memory"] = isinstance(error, MemoryError)
                done["error"] = self._explain(error)
                done["answer"], done["ready"] = self._answer()
        except BaseException as error:  # while explaining, or an interrupt at the last moment
            self._interrupts.disarm()
            done.setdefault("error", type(error).__name__)
            done.setdefault("answer", None)
            done.setdefault("ready", False)
        self._interrupts.disarm()
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._waiting.end()
        self._channel.abandon()
        done["in_vain"] = self._helpers.asking.ahead.end()
        _reset_timers()
        done["memory"] = _short_of_memory(after_error=done["memory"])
        output = Shown(self._recorder.finish())
        done.update(self._read(str(output), order["show"]))
        self.namespace[f"_result_{order['cell']}"] = output
        self._helpers.remember(
            order["cell"], order["code"], output, done["error"], order.get("reply", "")
        )
        return done

    def look(self, order: dict[str, Any], *, forked: bool) -> dict[str, Any]:
        """Describe variables, and return what is to be said of them; nothing else is sent."""
        sys.stdout, sys.stderr, sys.stdin = self._stdout, self._stderr, io.StringIO()
        _signal.signal(_signal.SIGINT, self._interrupts.handler)
        try:
            self._interrupts.armed = True
            said = look(self._variables, self.namespace, order)
        finally:
            self._interrupts.disarm()
        self._channel.abandon()
        return {**said, "forked": forked}

    def after_fork(self) -> None:
        """Forget threads that did not cross a fork."""
        self._recorder.after_fork()

    def warm(self) -> None:
        """Write to the pages that most cells write to, while there is time: each is copied then."""
        tree = ast.parse(_USUAL)
        walk(tree)
        body, _ = _compile(tree, "<warm>")
        exec(body, {"print": _ignore})  # noqa: S102 - this one is ours
        self._channel.encode({"type": "done", "error": "", "answer": None, "ready": False})
        _signal.signal(_signal.SIGINT, self._interrupts.handler)
        _short_of_memory(after_error=False)

    def _execute(self, code: str, name: str, *, batch: bool) -> None:
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        tree = ast.parse(code, name)
        self._reading.begin(code, tree)
        try:
            self._batching.prepare(tree, code, batch=batch)
        except RecursionError:  # deeper than can be walked, though not than can be compiled
            tree = ast.parse(code, name)
        body, last = _compile(tree, name)
        exec(body, self.namespace)  # noqa: S102 - running the model's code is what this is for
        if last is None:
            return
        value = eval(last, self.namespace)  # noqa: S307 - the same
        if value is not None:
            self._recorder.write("value", _shown(value) + "\n")

    def _read(self, output: str, limit: int) -> dict[str, Any]:
        """Tell what the cell has looked at, and what of it the model is shown."""
        try:
            held = self._reading.held_by(shown_of(output, limit), printed=True)
            return {"read": held, "looked_at": self._reading.looked_at()}
        except BaseException:  # the code may have broken anything; an interrupt may be late
            return {}

    def _explain(self, error: BaseException) -> str:
        """Print the traceback, cut to the model's own frames, and return its last line."""
        last = "".join(traceback.format_exception_only(error)).strip()
        report = traceback.TracebackException.from_exception(error)
        _without_our_frames(report)
        self._recorder.write("stderr", "".join(report.format()))
        return clean(last.splitlines()[-1] if last else type(error).__name__)[:2000]

    # ----------------------------------------------------------------------------- the vocabulary

    def _answer(self) -> tuple[str | None, bool]:
        """Read the answer as it stands now; FINAL wins over the variable."""
        answer = self.namespace.get("answer")
        if self._final:
            value = self._final[0]
            if isinstance(value, dict) and value.keys() == {"content", "ready"}:
                value = value["content"]  # what is in the answer is meant, not its dict
            return bounded(value), True
        if isinstance(answer, dict):
            return bounded(answer.get("content")), bool(answer.get("ready"))
        return bounded(answer), False

    def _reopen(self) -> None:
        """The answer was refused: it is not ready any more."""
        answer = self.namespace.get("answer")
        if isinstance(answer, dict):
            answer["ready"] = False

    def _say_final(self, value: Any) -> None:
        """Give the final answer."""
        self._final = [value]

    def _say_final_variable(self, name: Any) -> None:
        """Give the value of the variable of this name as the final answer."""
        if not isinstance(name, str):
            self._say_final(name)
            return
        key = name.strip().strip("'\"")
        if key in self.namespace:
            self._say_final(self.namespace[key])
        elif _is_part(key, self.namespace):
            self._say_final(eval(key, self.namespace))  # noqa: S307 - as the code itself could
        else:
            own = ", ".join(sorted(self._variables.own())) or "none yet"
            instead = "" if key.isidentifier() else "; for a text or a value there is FINAL(...)"
            raise NameError(f"FINAL_VAR: there is no variable {key!r}; there are: {own}{instead}")


def _ignore(*values: Any) -> None:
    """Stand in for print."""


def _no_answer() -> dict[str, Any]:
    return {"content": "", "ready": False}


def _compile(tree: ast.Module, name: str) -> tuple[CodeType, CodeType | None]:
    """Compile a cell, its last expression apart so that the value can be shown."""
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        expression = tree.body.pop()
        assert isinstance(expression, ast.Expr)
        last = compile(ast.Expression(expression.value), name, "eval", dont_inherit=True)
    return compile(tree, name, "exec", dont_inherit=True), last


def _is_part(expression: str, namespace: dict[str, Any]) -> bool:
    """Whether it is an item or an attribute of a variable."""
    try:
        node = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    whole = node
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node is not whole and isinstance(node, ast.Name) and node.id in namespace


def _without_our_frames(report: traceback.TracebackException | None) -> None:
    """Drop what the model can't have written from a traceback and those it is chained to.

    What leads to its own code goes too, and where the library is.
    """
    seen = 0
    while report is not None and seen < 20:
        begun, frames = False, []
        for frame in report.stack:
            begun = begun or frame.filename.startswith("<")
            if begun and os.path.dirname(frame.filename) != _OURS:
                frame.filename = frame.filename.removeprefix(_LIBRARY)
                frames.append(frame)
        report.stack[:] = frames
        report = report.__cause__ or report.__context__
        seen += 1


def _reset_timers() -> None:
    """No timer of this cell may go off in the next."""
    for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(which, 0)


def _short_of_memory(*, after_error: bool) -> bool:
    """Tell whether what a cell left behind leaves too little for the next one.

    Without a MemoryError little is demanded: as much as this process itself needs to go on.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = max(limit // 8, _RESERVE) if after_error else _RESERVE
    try:
        mmap.mmap(-1, wanted, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return True
    return False


def _shown(value: Any) -> str:
    """Return a value's repr; a long text is not copied whole for it."""
    if type(value) is str and len(value) > _VALUE_LIMIT:
        return f"{value[:_VALUE_LIMIT]!r} ... ({len(value):,} characters in all)"
    return repr(value)
