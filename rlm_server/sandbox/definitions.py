"""Top-level definitions of source code: where they begin and what they define.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import re
import warnings

from .spans import AtMargin, Span

_LARGEST = 4_000_000  # characters of a file that is parsed; larger ones are matched
_LISP = frozenset(("el", "lisp", "lsp", "cl", "scm", "ss", "rkt", "clj", "cljs", "fnl"))
_PROSE = frozenset(("md", "markdown", "org", "rst", "txt", "tex", "html", "csv", "json", "log"))
_LISP_TOKEN = re.compile(r';[^\n]*|"(?:\\.|[^"\\])*"|\?\\?.|\#\\.|[()\[\]]', re.DOTALL)
_LISP_NAME = re.compile(r"\([\w:+*/<>=!?.-]+\s+\(?'?([^\s()]+)")
# A line at the margin that others, further in or in braces, belong to.
_OPENS = AtMargin(
    r"(?!(?:else|elif|except|finally|end|fi|done|then|esac|default|case)\b)"
    r"[\w@\"'~$][^\n]*\n(?:[ \t]*\n)*(?=[ \t]+[^\s]|\{)"
    r"|(?!else\b|elif\b)[\w@][^\n]*\{[^\n]*\}[ \t;]*$"
)
_NAMED = re.compile(
    r"\b(?:def|class|function|func|fn|struct|enum|union|trait|interface|impl|module|namespace"
    r"|type|macro_rules!|sub|proc|package|object|record|protocol|extension)\s+"
    r"(?:\([^)\n]*\)\s*)?((?:[\w.$]|::)+)"
)
_CALLED = re.compile(r"((?:[\w~.$]|::)+)\s*(?:=\s*(?:async\s*)?(?:function\s*)?)?\(")
_FIRST = re.compile(r"[\w.$-]+")
_BELONGS = re.compile(r"[ \t]*(?:#|//|/\*|\*|;|--|%|@|\w)")


def definitions(span: Span) -> list[tuple[int, str]]:
    """Return the place in the text and the name of every top-level definition, in order.

    A comment, decorator or attribute right above a definition belongs to it. Empty for prose.
    """
    ending = span.path.rpartition(".")[2].lower() if "." in span.path else ""
    if ending in _PROSE:
        return []
    if ending in _LISP or (not ending and _begins_like_lisp(span)):
        return _lisp(span)
    if ending in ("py", "pyi", "pyw", "") and span.end - span.start <= _LARGEST:
        found = _python(span)
        if found is not None:
            return found
    return _indented(span)


def _begins_like_lisp(span: Span) -> bool:
    return span.text[span.start : span.start + 2000].lstrip()[:1] in ("(", ";")


def _python(span: Span) -> list[tuple[int, str]] | None:
    """By the parser; None where it is not Python."""
    text = span.text[span.start : span.end]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the document's own strings
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    starts = [span.start]
    starts += [span.start + match.end() for match in re.finditer(r"\r\n|\r|\n", text)]
    found: list[tuple[int, str]] = []
    within = False
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            line = min([node.lineno, *(part.lineno for part in node.decorator_list)])
            found.append((_with_comments(span, starts[line - 1], "#"), node.name))
            within = True
        elif within:  # what follows a definition without being one is a piece of its own
            found.append((_with_comments(span, starts[node.lineno - 1], "#"), ""))
            within = False
    return sorted(dict(reversed(found)).items())


def _with_comments(span: Span, place: int, mark: str) -> int:
    """Move a place at the start of a line up over the comments right above it."""
    while place > span.start:
        above = span.line_start(place - 1)
        if not span.text.startswith(mark, above):
            break
        place = above
    return place


def _lisp(span: Span) -> list[tuple[int, str]]:
    """By balanced parentheses; a definition at the margin always begins anew."""
    text = span.text
    found: list[tuple[int, str]] = []
    depth = 0
    for match in _LISP_TOKEN.finditer(text, span.start, span.end):
        at, sign = match.start(), match[0]
        if sign in ("(", "["):
            margin = sign == "(" and (at == span.start or text[at - 1] == "\n")
            if margin and depth and text.startswith("(def", at):
                depth = 0
            if margin and not depth:
                named = _LISP_NAME.match(text, at, min(span.end, at + 200))
                found.append((_with_comments(span, at, ";"), named[1] if named else ""))
            depth += 1
        elif sign in (")", "]"):
            depth = max(0, depth - 1)
    return found


def _indented(span: Span) -> list[tuple[int, str]]:
    """By the look of it: a line at the margin with others below it that are further in."""
    found: list[tuple[int, str]] = []
    for start, _ in _OPENS.finditer(span):
        place = _with_head(span, start, found[-1][0] if found else span.start - 1)
        found.append((place, _name(span.text[start : span.line_end(start)])))
    return found


def _with_head(span: Span, place: int, former: int) -> int:
    """Move up over comments, attributes and a return type right above, but not over a block."""
    while place > span.start:
        above = span.line_start(place - 1)
        line = span.text[above : place - 1]
        if line.rstrip().endswith("*/"):
            above = span.line_start(max(span.start, span.text.rfind("/*", span.start, place)))
        elif line[:1].isspace() or line.rstrip().endswith((";", "}")):
            break  # the end of something else
        if above <= former or not _BELONGS.match(line):
            break
        place = above
    return place


def _name(line: str) -> str:
    named = _NAMED.search(line) or _CALLED.search(line)
    if named:
        return named[1]
    first = _FIRST.search(line)
    return first[0] if first else ""
