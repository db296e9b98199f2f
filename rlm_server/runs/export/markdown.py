"""A run as Markdown: the question, each iteration with its code and output, the answer.

What models and texts say can't change the page: it can't open a heading, HTML, or a fence that
swallows the rest, and no image of it is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rlm_server.protocol import ContextReady, FollowUp, Notice, RunEnded, RunStarted
from rlm_server.runs.export import figures
from rlm_server.runs.export.items import Call, Cell, Item, Lost, Step, Verdict, joined
from rlm_server.runs.export.python import code_of
from rlm_server.text import clip

OUTPUT_SHOWN = 20_000
"""Characters of what a cell printed, of a prompt, or of a sub-call's answer."""

_FENCE = re.compile(r"\s*(`{3,}|~{3,})[ \t]*([\w+#.-]*)(?![^\n]*`)")
_HEADING = re.compile(r"\s{0,3}(#{1,6})(?=\s|$)")
_ACTIVE = re.compile(r"<(?=[A-Za-z/!?])|!(?=\[)|\](?=\((?!\s*<?https?:))|\](?=:)")
_UNDERLINE = re.compile(r"\s{0,3}(=+|-{2,})\s*$")


def write(story: Iterable[Item]) -> Iterator[str]:
    """Yield the page in pieces."""
    for item in story:
        if isinstance(item, RunStarted):
            yield f"# {_one_line(item.question)}\n\n"
            yield (
                f"Run {item.run_id}, {figures.moment(item.time)}. Root model "
                f"{_one_line(item.root_model)}, sub model {_one_line(item.sub_model)}.\n\n"
            )
            if "\n" in item.question.strip():
                yield prose(item.question)
        elif isinstance(item, ContextReady):
            yield (
                f"Context: {figures.count(item.documents, 'document')}, "
                f"{figures.count(item.characters, 'character')}.\n\n"
            )
        elif isinstance(item, Step):
            yield from _step(item, f"Iteration {item.number}", 2)
        elif isinstance(item, FollowUp):
            yield f"# {_one_line(item.question)}\n\n"
        elif isinstance(item, Notice):
            yield _notice(item)
        elif isinstance(item, Verdict):
            yield from _verdict(item)
        elif isinstance(item, RunEnded):
            yield f"\n---\n\n{item.status.capitalize()}: {_one_line(item.reason)} "
            yield f"{figures.used(item.usage)}, {figures.seconds(item.seconds)}.\n"
        elif isinstance(item, Lost):
            yield f"\n*{lost(item)}*\n"


def lost(item: Lost) -> str:
    """What is missing of the log, in a sentence."""
    return (
        f"It is damaged: {figures.count(item.events, 'event')} can't be read or "
        f"{'is' if item.events == 1 else 'are'} missing."
    )


def _step(step: Step, title: str, level: int) -> Iterator[str]:
    yield f"{'#' * min(level, 6)} {title}\n\n"
    state = figures.seconds(step.seconds) if step.ended else "unfinished"
    yield f"*{_one_line(step.model) or 'no reply'}: {figures.used(step.usage)}, {state}*\n\n"
    for kind, text in joined(step.parts):
        if kind == "prose" and text.strip():
            yield prose(text)
    for notice in step.notices:
        yield _notice(notice)
    for cell in step.cells:
        yield from _cell(step, cell, level)


def _cell(step: Step, cell: Cell, level: int) -> Iterator[str]:
    yield fenced(code_of(step, cell), "python")
    output = "".join(text for _, text in cell.output)
    if output.strip():
        yield "Output:\n\n" + fenced(clip(output, OUTPUT_SHOWN))
    if cell.status != "ok":
        yield f"**{cell.status}** {_one_line(cell.error)}\n\n"
    for call in cell.calls:
        yield from _call(call, level + 1)


def _call(call: Call, level: int) -> Iterator[str]:
    name = f"Child run {call.number}" if call.depth else f"Sub-call {call.number}"
    yield f"{'#' * min(level, 6)} {name}\n\n"
    yield (
        f"*{_one_line(call.model)}: {call.status}, {figures.used(call.usage)}, "
        f"{figures.seconds(call.seconds)}{', cached' if call.cached else ''}*\n\n"
    )
    yield f"{'Question' if call.depth else 'Prompt'}:\n\n" + fenced(clip(call.prompt, OUTPUT_SHOWN))
    for step in call.steps:
        yield from _step(step, f"{name}, iteration {step.number}", level + 1)
    said = call.answer or (call.error.message if call.error else "")
    if said:
        yield "Answer:\n\n" + fenced(clip(said, OUTPUT_SHOWN))


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f"## {'Answer so far' if verdict.last.partial else 'Answer'}\n\n"
    yield prose(verdict.text)
    if verdict.last.evidence:
        yield "### Evidence\n\n"
        for place in verdict.last.evidence:
            yield f"- {_code(f'{place.path}:{place.line}')} {_code(place.quote)}\n"
        yield "\n"
    if verdict.drawn:
        yield f"{_one_line(figures.drawn(verdict.drawn))}\n\n"
        doubts = [(quote, figures.doubt(quote)) for quote in verdict.drawn.quotes]
        yield from (
            f"- **{_one_line(doubt)}**: {_code(quote.text)}\n" for quote, doubt in doubts if doubt
        )
        yield "\n"


def _notice(notice: Notice) -> str:
    return f"> **{notice.level.capitalize()}:** {_one_line(notice.text)}\n\n"


def prose(text: str) -> str:
    """Markdown of others as paragraphs of this page.

    Fences are written anew at the margin: in a list they would end where the list does.
    """
    lines: list[str] = []
    fence = ""
    for line in text.strip("\n").split("\n"):
        mark = _FENCE.match(line)
        if fence and mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            lines += [fence, ""]
            fence = ""
        elif fence:
            lines.append(line)
        elif mark:
            fence = mark[1]
            lines += ["", fence + mark[2]]
        else:
            lines.append(_harmless(line))
    if fence:
        lines.append(fence)
    return "\n".join(lines) + "\n\n"


def fenced(text: str, language: str = "") -> str:
    """A block that ends where the text ends, whatever it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n\n"


def _harmless(line: str) -> str:
    """A line of prose that opens no heading."""
    if heading := _HEADING.match(line):
        words = line[heading.end() :].strip().strip("#").strip()
        line = f"**{words}**" if words and "*" not in words else words
    if _UNDERLINE.match(line):
        line = "\\" + line.strip()
    return _escaped(line)


def _escaped(text: str) -> str:
    """Text without HTML, images, and links elsewhere than to the web.

    By a space of no width, which is right in code too: what is code depends on other lines.
    """
    return _ACTIVE.sub("\\g<0>\u200b", text)


def _one_line(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _code(text: str) -> str:
    line = " ".join(text.split())
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"
