"""What the models are told: the system prompts, the context's shape, and feedback on a reply."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from rlm_server.context.corpus import Corpus
from rlm_server.context.part import Part
from rlm_server.engine.history import Feedback
from rlm_server.engine.profile import Profile
from rlm_server.engine.reply import ReplyParser
from rlm_server.models import Message
from rlm_server.sandbox import CellResult
from rlm_server.text import clip

EDGE = 600
"""Characters of the context's head and tail that the root model sees."""

PREVIEW = 2
"""One part in so many of what may be shown is shown of an output which is longer."""

FIRST_WORDS = 60
"""Characters of such an output that are repeated once it has been seen."""

KINDS = 8
"""Suffixes named in it."""
EARLIER = 4000
"""Characters of an earlier answer, and of the list of variables, in a further question."""

LONGEST = 8
"""Documents named in the context's shape."""


@cache
def prompt_file(name: str) -> str:
    """A file of ``prompts``, by its name without suffix."""
    return resources.files("rlm_server.engine").joinpath(f"prompts/{name}.md").read_text("utf-8")


def opening(system: str, question: str, corpus: Corpus | Part, task: str = "") -> list[Message]:
    """The messages a run begins with; ``task`` is what is asked beside the question."""
    asked = f"Question: {question}\n\n{shape(corpus)}" + (f"\n\n{task}" if task else "")
    return [{"role": "system", "content": system}, {"role": "user", "content": asked}]


def sub_messages(prompt: str) -> list[Message]:
    """The messages of a sub-call."""
    return [
        {"role": "system", "content": prompt_file("sub")},
        {"role": "user", "content": prompt},
    ]


def shape(corpus: Corpus | Part) -> str:
    """The size of the context, its kinds and longest documents, how it begins and how it ends."""
    count = len(corpus.documents)
    lines = [
        f"The context holds {count:,} document{'s' if count != 1 else ''}, "
        f"{corpus.characters:,} characters (about {corpus.bytes // 4:,} tokens).",
    ]
    longest = heapq.nlargest(LONGEST, corpus.documents, key=lambda d: d.end - d.start)
    names = ", ".join(f"{d.path} ({d.end - d.start:,} characters)" for d in longest)
    if count > 1:
        lines.append(f"Kinds: {_kinds(corpus)}")
    lines.append(f"{'Longest: ' if count > 1 else 'Document: '}{names}")
    if corpus.characters <= 2 * EDGE:
        lines += ["It reads:", corpus.head(2 * EDGE)]
    else:
        lines += ["It begins:", corpus.head(EDGE), "It ends:", corpus.tail(EDGE)]
    return "\n".join(lines)


def _kinds(corpus: Corpus | Part) -> str:
    """How many documents there are of each suffix, the commonest first."""
    counts = Counter(PurePosixPath(d.path).suffix.lower() or "none" for d in corpus.documents)
    named = [f"{suffix[:20]} {count:,}" for suffix, count in counts.most_common(KINDS)]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f", and {rest:,} more" if rest else "")


def outputs(results: list[CellResult], total: int, show: int) -> Feedback:
    """What the cells of a reply printed: an output longer than ``show`` is cut, and later named."""
    now, later = [], []
    # One budget for all, so that many cells do not make one long prompt.
    show = max(show // 10, min(show, 2 * show // max(1, len(results))))
    for place, result in enumerate(results, 1):
        if steered := _steered(place, result, show):
            now.append(steered)
            later.append(steered)
        if result.status == "rejected":
            continue
        number = result.number
        head = f"Output of cell {number}"
        if result.output_characters:
            head += f" ({result.output_characters:,} characters, kept whole in _result_{number})"
        body = result.output if result.output.strip() else "(nothing was printed)"
        cut = result.output_characters > show
        now.append(f"{head}:\n{_head_and_tail(result, show) if cut else body}")
        seen = f"Cell {number} printed {result.output_characters:,} characters (_result_{number}): "
        later.append(seen + _first_words(body) if cut else now[-1])
        if result.status not in ("ok", "error"):
            now.append(stopped(result))
            later.append(now[-1])
    told = Feedback("\n\n".join(now), "\n\n".join(later))
    if len(results) == total:
        return told
    return told.and_also(
        f"Your reply had {total} blocks; those after the {_ordinal(len(results))} did not run."
    )


def _head_and_tail(result: CellResult, show: int) -> str:
    """Less of an output that can't be shown whole: enough to see what to look for in it."""
    room = show // PREVIEW
    head, tail = room * 2 // 3, room // 3
    note = f"[... {result.output_characters - head - tail:,} characters left out ...]"
    return f"{result.output[:head]}\n{note}\n{result.output[-tail:]}"


def _first_words(text: str) -> str:
    line = " ".join(text[:FIRST_WORDS].split())
    return f"{line} ..."


def _steered(place: int, result: CellResult, show: int) -> str:
    """What a person did to a block of the reply before it ran, if anything."""
    if result.status == "rejected":
        said = result.error.strip()
        end = "" if said.endswith((".", "!", "?")) else "."
        reason = f" Their reason: {said}{end}" if said else ""
        return (
            f"The {_ordinal(place)} block of your reply did not run: the person who asked has "
            f"looked at it and rejected it.{reason} Go on in another way."
        )
    if result.edited:
        return (
            f"The person who asked has edited the {_ordinal(place)} block of your reply. This ran "
            f"in its place:\n```repl\n{clip(result.edited, show).rstrip()}\n```"
        )
    return ""


def stopped(result: CellResult) -> str:
    """What the root model is told of a cell that didn't come to its end."""
    kept = (
        "Variables of earlier cells are still there."
        if result.kept
        else "All variables of earlier cells are lost; `context` and the functions are back."
    )
    return f"The cell was stopped: {result.error or result.status}. {kept}"


def earlier(answered: Sequence[tuple[str, str]]) -> str:
    """The questions that were asked before in a run, and their answers."""
    told = [f"Question: {question}\nAnswer: {clip(text, EARLIER)}" for question, text in answered]
    return "\n\n".join(["Asked before, about the same context:", *told])


def further(
    question: str, answered: Sequence[tuple[str, str]], variables: str, task: str = ""
) -> str:
    """A further question in a run, after the questions and answers before it.

    ``task`` says more of what the answer has to be.
    """
    asked = f"A further question: {question}" + (f"\n\n{task}" if task else "")
    return (
        f"{asked}\n\n{earlier(answered)}\n\n"
        f"Your variables are as you left them:\n{clip(variables, EARLIER)}\n\n"
        "`answer` is empty again; set it when you have the answer to the further question."
    )


def no_code(reply: ReplyParser, profile: Profile) -> str:
    """Feedback on a reply without a cell."""
    if reply.other_fences:
        named = ", ".join(f"```{language[:20]}" for language in reply.other_fences[:5])
        found = f"Your reply has a fenced block that is not run ({named})"
    else:
        found = "Your reply has no code block, so nothing was run"
    how = {"dict": 'answer["content"] = ...; answer["ready"] = True', "final": "FINAL(...)"}
    return (
        f"{found}. Write your code in a block: a line ```{profile.fence}, the code on the lines "
        f"below it, and a line ``` at the end. If you have the answer, give it in such a block: "
        f"{how[profile.answer]}"
    )


UNREAD = (
    "That answer was set without reading anything of the context. Look at the context first, then "
    'set the answer again with answer["ready"] = True.'
)
"""Feedback on a ready answer in the first reply whose code never names the context."""


EMPTY = (
    "That answer was said to be ready, but it is empty. Set it to what you have found, or to why "
    "nothing can be found."
)
"""Feedback on a ready answer without content."""


REPEATED = (
    "That was the same code as in your last reply, and it printed the same. Do something else, or "
    "give the answer that you have."
)
"""Feedback on a reply that repeats the one before it."""


def nearing(text: str) -> str:
    """A warning that a limit is near."""
    return (
        f"A limit is near: {text} Beyond it you are stopped. Set answer['content'] to the best "
        "answer that you have now, and finish soon."
    )


def last_call(remaining: int) -> str:
    """A warning that the iterations are nearly used up."""
    return (
        f"You have {remaining} repl{'ies' if remaining != 1 else 'y'} left. Set answer['content'] "
        "to the best answer that you have now, and answer['ready'] = True."
    )


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def person_note(note: str) -> str:
    """What the person who asked wants the model to know from here on."""
    return f"The person who asked adds: {note}"
