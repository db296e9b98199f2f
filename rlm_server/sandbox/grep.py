"""``grep``: lines that match, found in the text as it lies there, without cutting it up.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .found import Found, FoundList, clipped, place
from .spans import Lines, Span, spans

_BLOCK = 16_384  # characters that a match which can't be can waste
_CROSSES = re.compile(r"\\n|\n")


def grep(
    pattern: str | re.Pattern[str],
    within: Any,
    *,
    ignore_case: bool = False,
    context_lines: int = 0,
    limit: int | None = 200,
) -> FoundList[Found]:
    r"""Return the lines that match, at most ``limit``; says so where there were more.

    Lines are matched one by one, unless the pattern names ``\n`` or has the flag DOTALL.
    Raises re.error for a pattern that is none.
    """
    wanted = _compiled(pattern, ignore_case)
    crossing = bool(wanted.flags & re.DOTALL or _CROSSES.search(wanted.pattern))
    result: FoundList[Found] = FoundList()
    for span in spans(within):
        lines = Lines(span)
        for start, end, at in _matches(wanted, span, crossing):
            if limit is not None and len(result) >= limit:
                result.cut = True
                print(f"[grep stopped at {limit:,} lines; there are more: limit=None for all]")
                return result
            text = clipped(span, start, end, at)
            shown = _shown(span, start, end, lines.at(start), text, context_lines)
            result.append(place(Found, shown, span, at, lines.at(start), text))
    return result


def _compiled(pattern: str | re.Pattern[str], ignore_case: bool) -> re.Pattern[str]:
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else 0)
    if isinstance(pattern, re.Pattern):
        return re.compile(pattern.pattern, pattern.flags | flags)
    if not isinstance(pattern, str):
        raise TypeError("pattern has to be a regular expression; join several by |")
    return re.compile(pattern, flags)


def _matches(wanted: re.Pattern[str], span: Span, crossing: bool) -> Iterator[tuple[int, int, int]]:
    """Yield the lines that match: start, end, and where in them."""
    text = span.text
    for begin, stop in _blocks(span, crossing):
        at = begin
        while at < stop:
            match = wanted.search(text, at, stop)
            if match is None or (match.start() == stop and text[stop - 1] == "\n"):
                break
            start = span.line_start(match.start())
            end = span.line_end(max(match.start(), match.end() - 1))
            if not crossing:
                end = span.line_end(match.start())
                if match.end() > end:  # it needs the next line; perhaps another match does not
                    match = wanted.search(text, start, end)
            if match is not None:
                yield start, end, match.start()
            at = end + 1


def _blocks(span: Span, crossing: bool) -> Iterator[tuple[int, int]]:
    """Cut a span at line ends, so that a match over many lines is soon given up."""
    begin = span.start
    while begin < span.end:
        stop = span.end
        if not crossing and stop - begin > _BLOCK:
            stop = min(stop, span.line_end(begin + _BLOCK) + 1)
        yield begin, stop
        begin = stop


def _shown(span: Span, start: int, end: int, line: int, text: str, context_lines: int) -> str:
    """The line as it is printed, with the lines around it where they are wanted."""
    shown = [f"{span.path}:{line}: {text}"]
    at, number = start, line
    while at > span.start and number > line - context_lines:
        at, number = span.line_start(at - 1), number - 1
        shown.insert(0, _neighbour(span, at, number))
    at, number = end + 1, line + span.text.count("\n", start, end) + 1
    for below in range(context_lines):
        if at >= span.end:
            break
        shown.append(_neighbour(span, at, number + below))
        at = span.line_end(at) + 1
    return "\n".join(shown)


def _neighbour(span: Span, at: int, number: int) -> str:
    return f"{span.path}-{number}- {clipped(span, at, span.line_end(at), at)}"
