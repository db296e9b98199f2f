"""A run as one HTML page that needs no server, no script, and nothing else than itself.

Everything that a model or a text says is escaped; the policy in the page's head forbids scripts,
and loading anything, should that ever fail.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html import escape
from importlib import resources
from itertools import chain

from rlm_server.protocol import ContextReady, FollowUp, Notice, RunEnded, RunStarted
from rlm_server.runs.export import figures
from rlm_server.runs.export.answer import answer
from rlm_server.runs.export.items import Call, Cell, Item, Lost, Step, Verdict, joined
from rlm_server.runs.export.markdown import OUTPUT_SHOWN, lost
from rlm_server.runs.export.python import code_of
from rlm_server.runs.export.visible import visible
from rlm_server.text import clip


def write(tell: Callable[[], Iterable[Item]]) -> Iterator[str]:
    """Yield the page in pieces.

    The story is told twice: what a reader wants first, the answer, stands last in a log.
    """
    started, ready, verdicts, ends, notices = None, None, [], [], []
    asked = ""
    for item in tell():
        if isinstance(item, RunStarted):
            started = item
        elif isinstance(item, ContextReady):
            ready = item
        elif isinstance(item, FollowUp):
            asked = item.question
        elif isinstance(item, Verdict):
            verdicts.append((asked, item))
            asked = ""
        elif isinstance(item, RunEnded | Lost):
            ends.append(item)
        elif isinstance(item, Notice):
            notices.append(item)
    yield from _head(started)
    yield from _facts(started, ready, ends)
    for number, (asked, verdict) in enumerate(verdicts):
        yield _further(asked)
        yield from answer(verdict, number)
    if not verdicts:
        yield '<p class="bad">This run has no answer (yet).</p>\n'
    yield from map(_notice, notices)
    yield "<h2>How it went</h2>\n"
    for item in tell():
        if isinstance(item, Step):
            yield from _step(item, f"Iteration {item.number}")
        elif isinstance(item, FollowUp):
            yield _further(item.question)
    yield "</body></html>\n"


def _further(question: str) -> str:
    """A further question as a heading; nothing for the first one, which heads the page."""
    return f'<h2 class="further" dir="auto">{_text(question)}</h2>\n' if question else ""


@cache
def _style() -> str:
    return resources.files("rlm_server.runs.export").joinpath("page.css").read_text("utf-8")


def _head(started: RunStarted | None) -> Iterator[str]:
    digest = b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    question = started.question if started else "A run whose beginning is lost"
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield '<meta name="referrer" content="no-referrer">\n'
    yield f"<title>{_text(clip(question, 200))}</title>\n"
    yield f"<style>{_style()}</style></head>\n<body>\n"
    yield f'<h1 dir="auto">{_text(question)}</h1>\n'


def _facts(
    started: RunStarted | None, ready: ContextReady | None, ends: Iterable[RunEnded | Lost]
) -> Iterator[str]:
    facts = []
    if started:
        facts += [
            ("Run", f"{started.run_id}, {figures.moment(started.time)}"),
            ("Models", f"{started.root_model}; sub-calls: {started.sub_model}"),
        ]
    if ready:
        size = figures.count(ready.characters, "character")
        facts.append(("Context", f"{figures.count(ready.documents, 'document')}, {size}"))
        left = ", ".join(f"{n:,} {reason}" for reason, n in ready.left_out_counts.items())
        if left:
            facts.append(("Left out", left))
    ended = False
    for end in ends:
        if isinstance(end, Lost):
            facts.append(("Log", lost(end)))
            continue
        ended = True
        calls = f"{figures.count(end.iterations, 'iteration')}, "
        calls += figures.count(end.subcalls, "sub-call")
        facts.append(("End", f"{end.status}: {end.reason}"))
        facts.append(
            ("Used", f"{figures.used(end.usage)}, {figures.seconds(end.seconds)}, {calls}")
        )
    if not ended:
        facts.append(("End", "none: the run is going on, or was interrupted"))
    yield "<table>\n"
    for name, fact in facts:
        yield f'<tr><th>{name}</th><td dir="auto">{_text(fact)}</td></tr>\n'
    yield "</table>\n"


def _step(step: Step, title: str) -> Iterator[str]:
    what = "" if step.ended else ", unfinished"
    what += ", cached" if step.cached else ""
    used = f"{figures.used(step.total())}, {figures.seconds(step.duration())}"
    yield f'<details><summary><span class="figures">{used}</span>'
    yield f"{title}{what}{_sentence(step)}</summary>\n"
    if step.model:
        own = f"Reply of {step.model}: {figures.used(step.usage)}, {figures.seconds(step.seconds)}"
        yield f'<p class="facts">{_text(own)}</p>\n'
    yield from map(_notice, step.notices)
    for kind, text in joined(step.parts):
        if kind == "prose" and text.strip():
            yield f'<div class="text" dir="auto">{_text(text.strip())}</div>\n'
        elif kind == "reasoning":
            yield from _folded("Reasoning", text)
    for cell in step.cells:
        yield from _cell(step, cell)
    yield "</details>\n"


def _sentence(step: Step) -> str:
    """The beginning of what the model said, for the line that stays when all is folded."""
    said = " ".join("".join(text for kind, text in step.parts if kind == "prose").split())
    return f": <bdi>{_text(said if len(said) <= 70 else said[:69] + '…')}</bdi>" if said else ""


def _cell(step: Step, cell: Cell) -> Iterator[str]:
    yield f'<pre class="code">{_text(code_of(step, cell).rstrip())}</pre>\n'
    output = "".join(text for _, text in cell.output)
    if output.strip():
        kind = ' class="problem"' if cell.status != "ok" else ""
        yield f"<pre{kind}>{_text(clip(output, OUTPUT_SHOWN).rstrip())}</pre>\n"
    if cell.status == "ok":
        yield f'<p class="facts">Ran {figures.seconds(cell.seconds)}.</p>\n'
    else:
        yield f'<p class="bad">{_text(f"{cell.status}: {cell.error}")}</p>\n'
    for call in cell.calls:
        yield from _call(call)


def _call(call: Call) -> Iterator[str]:
    name = f"Child run {call.number}" if call.depth else f"Sub-call {call.number}"
    what = "" if call.status in ("ok", "done") else f" ({call.status})"
    what += " (cached)" if call.cached else ""
    used = f"{figures.used(call.usage)}, {figures.seconds(call.seconds)}"
    yield f'<details><summary><span class="figures">{used}</span>{name}{_text(what)}</summary>\n'
    size = figures.count(call.characters, "character")
    about = f"a context of {size}" if call.depth else f"a prompt of {size}"
    if call.holds:
        about += ", with " + ", ".join(f"{one.characters:,} of {one.path}" for one in call.holds)
    yield f'<p class="facts">{_text(f"{call.model}, {about}")}</p>\n'
    yield f"<pre>{_text(clip(call.prompt, OUTPUT_SHOWN))}</pre>\n"
    yield from chain.from_iterable(
        _step(step, f"{name}, iteration {step.number}") for step in call.steps
    )
    if call.answer:
        yield f'<div class="text" dir="auto">{_text(clip(call.answer, OUTPUT_SHOWN))}</div>\n'
    if call.error:
        yield f'<p class="bad">{_text(f"{call.error.message} {call.error.cure}")}</p>\n'
    yield "</details>\n"


def _folded(title: str, text: str) -> Iterator[str]:
    yield f'<details><summary>{title}</summary><div class="text" dir="auto">'
    yield f"{_text(text.strip())}</div></details>\n"


def _notice(notice: Notice) -> str:
    return f'<p class="facts">{notice.level.capitalize()}: {_text(notice.text)}</p>\n'


def _text(text: str) -> str:
    return escape(visible(text))
