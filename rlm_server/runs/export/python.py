"""All code of a run in one Python script, in its order, with what was said of it as comments."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterable, Iterator

from rlm_server.protocol import MAX_EVENT_TEXT, FollowUp, RunStarted
from rlm_server.runs.export.items import Cell, Item, Step, Verdict, joined

HEAD = """\
# The code that answered a question, as a model wrote it, cell by cell.
#
# It ran in the REPL of rlm, where `context`, `llm_query`, `rlm_query`, `grep`, `search`, `cite`,
# the chunkers and `answer` are defined; elsewhere, define those that are used before you run it.
# What did not compile, and the code of child runs, stands in comments.
#
"""


def write(story: Iterable[Item]) -> Iterator[str]:
    """Yield the script in pieces; it compiles, whatever the cells hold."""
    yield HEAD
    for item in story:
        if isinstance(item, RunStarted):
            yield _comment(f"Run: {item.run_id}\nQuestion: {item.question}")
        elif isinstance(item, FollowUp):
            yield "\n\n" + _comment(f"Further question: {item.question}")
        elif isinstance(item, Step):
            yield from _step(item, f"Iteration {item.number}", comment_out=False)
        elif isinstance(item, Verdict):
            yield "\n\n# %% Answer\n" + _comment(item.text)


def code_of(step: Step, cell: Cell) -> str:
    """A cell's code, whole where the reply has what its event had to cut."""
    blocks = [text for kind, text in joined(step.parts) if kind == "code" and text.strip()]
    if len(cell.code) > MAX_EVENT_TEXT and 0 < cell.number <= len(blocks):
        whole = textwrap.dedent(blocks[cell.number - 1])
        if whole.startswith(cell.code[: MAX_EVENT_TEXT // 2]):
            return whole
    return cell.code


def _step(step: Step, title: str, *, comment_out: bool) -> Iterator[str]:
    said = "".join(text for kind, text in step.parts if kind == "prose").strip()
    for cell in step.cells:
        code = code_of(step, cell).rstrip() + "\n"
        yield f"\n\n# %% {title}, cell {cell.number}\n"
        if said:
            yield _comment(said)
            said = ""
        if cell.status != "ok":
            yield _comment(f"[{cell.status}] {cell.error}")
        yield _comment(code) if comment_out or not _compiles(code) else code
        for call in cell.calls:
            for below in call.steps:
                title_below = f"Child run {call.node}, iteration {below.number}"
                yield from _step(below, title_below, comment_out=True)


def _compiles(code: str) -> bool:
    """Whether code may stand in the middle of a script."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the model's strings
            compile(code, "cell", "exec", dont_inherit=True)
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    # Imports from __future__ come first, and names are declared global before they are used.
    return "__future__" not in code and not any(_declares_global(node) for node in tree.body)


def _declares_global(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    if isinstance(node, ast.Global):
        return True
    return any(_declares_global(child) for child in ast.iter_child_nodes(node))


def _comment(text: str) -> str:
    # Not splitlines: to Python, a form feed or U+2028 ends no comment, but "\r" does.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\u2400").split("\n")
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
