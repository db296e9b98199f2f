"""What accepted notes change on built-in tasks, with and without: marks, reflection, prompts.

The root model is a script that tries ways at random, and keeps to a note where it is told one. The
sub model is a reader that is exact on short prompts, and sees the beginning and the end of long
ones only, as weak models do. So this measures the whole way from marked runs through accepted notes
into prompts, what notes are worth to a model that follows them, and what they cost. It does not
measure how well a real model follows them; only marked runs of one's own can tell that.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from table import print_table

from engine_harness import Played, ScriptedModels, cell, play
from rlm_server.engine.notes import kind_of
from rlm_server.engine.reflect import Reflection
from rlm_server.models.offline import reply_to
from rlm_server.protocol import SubcallStarted, TextSource
from rlm_server.runs.marks import Marks

TASKS = 8
"""Of each kind, to learn from; then as many others to be measured by."""

SEEN = 12_000
"""Characters at each end that the reader sees of a long prompt."""


@dataclass
class Task:
    question: str
    text: str
    right: str


def tasks(kind: str, seed: int) -> list[Task]:
    return [MAKERS[kind](random.Random(f"{kind} {seed} {n}")) for n in range(TASKS)]


def deliveries(chosen: random.Random, months: Sequence[str]) -> tuple[str, dict[str, int]]:
    """A log of deliveries some of which failed, and how many did in each month."""
    lines, failed = [], dict.fromkeys(months, 0)
    for number in range(9000):
        month = months[number * len(months) // 9000]
        bad = chosen.random() < (0.012 if month == months[-1] else 0.004)
        failed[month] += bad
        word = "was lost on its way" if bad else "has arrived in good order"
        lines.append(f"{month} parcel {number} {word}, says the driver\n")
    return "".join(lines), failed


def counting(chosen: random.Random) -> Task:
    text, failed = deliveries(chosen, ["May"])
    return Task("How many parcels were lost?", text, str(failed["May"]))


def comparing(chosen: random.Random) -> Task:
    months = chosen.sample(["Jan", "Feb", "Mar", "Apr", "Jun", "Jul"], 2)
    text, failed = deliveries(chosen, months)
    right = max(failed, key=lambda month: failed[month])
    return Task(f"Compare {months[0]} and {months[1]}: more parcels lost in?", text, right)


def locating(chosen: random.Random) -> Task:
    text, _ = deliveries(chosen, ["May"])
    lines = text.splitlines(keepends=True)
    at = chosen.randrange(2000, 7000)
    lines.insert(at, "the keeper of the depot is called Odalys\n")
    return Task("Where is the keeper of the depot named?", "".join(lines), f"log.txt:{at + 1}")


MAKERS = {"count": counting, "compare": comparing, "locate": locating}


# ----------------------------------------------------------------------------------------- models

PIECES = """
pieces = []
at = 0
while at < len(context):
    end = context.find("\\n", min(len(context), at + SIZE)) + 1 or len(context)
    pieces.append(context[at:end])
    at = end
replies = llm_query_batched([f"WANTED {WORDS!r}\\n" + piece for piece in pieces])
"""
FILTER = """
import re
hits = grep("lost|keeper", limit=None)
replies = llm_query_batched([f"WANTED {WORDS!r}\\n" + "\\n".join(str(hit) for hit in hits)])
"""
ANSWER = """
from collections import Counter
said = [line for reply in replies for line in reply.splitlines()]
lost = [line for line in said if "was lost" in line]
months = Counter(re.search(r"(\\w+) parcel", line)[1] for line in lost)
if KIND == "count":
    text = str(len(lost))
elif KIND == "compare":
    text = max(months, key=months.get) if months else "neither"
else:
    place = [cite(line.rpartition(": ")[2]) for line in said if "keeper" in line]
    text = str(place[0]) if place else "nowhere"
answer["content"], answer["ready"] = text, True
"""


def root(task: Task, chosen: random.Random):
    """A script that follows notes, and tries at random where there is none."""

    def reply(messages) -> str:
        told = messages[-1]["content"].rpartition("What has worked")[2]
        size = re.search(r"Pieces: give a sub-call about ([\d,]+)", told)
        filters = "Filter: search with code" in told
        if not filters and not size:
            filters = chosen.random() < 0.4
        pick = int(size[1].replace(",", "")) if size else chosen.choice([20_000, 60_000, 200_000])
        code = FILTER if filters else f"import re\nSIZE = {pick}\n{PIECES}"
        words = "the keeper" if "keeper" in task.question else "was lost"
        return cell(f"KIND, WORDS = {kind_of(task.question)!r}, {words!r}\n{code}\n{ANSWER}")

    return reply


def reader(prompt: str) -> str:
    """Repeats the lines that are asked for, as far as it sees them."""
    head, _, text = prompt.partition("\n")
    wanted = head.removeprefix("WANTED ").strip("'\"")
    if len(text) > 2 * SEEN:
        text = text[:SEEN] + text[-SEEN:]
    return "\n".join(line for line in text.splitlines() if wanted in line)


async def ask(home: Path, name: str, task: Task, chosen: random.Random) -> Played:
    source = TextSource(text=task.text, name="log.txt")
    scripted = [root(task, chosen)] * 3
    return await play(home / name, scripted, sources=[source], sub=reader, question=task.question)


# -------------------------------------------------------------------------------------- measuring


async def learn(home: Path) -> list[str]:
    """Run the tasks to learn from, mark the runs by their answers, and accept what is proposed."""
    marks = Marks(home / "marks.jsonl")
    (home / "runs").mkdir()
    for kind in MAKERS:
        for number, task in enumerate(tasks(kind, 1)):
            name = f"{kind}{number}"
            run = await ask(home, name, task, random.Random(name))
            text = run.run.log.path.read_bytes()
            text = text.replace(b'"runId":"test"', f'"runId":"{name}"'.encode())
            (home / "runs" / f"{name}.jsonl").write_bytes(text)
            marks.set(name, run.answer == task.right, "")
    reflection = Reflection(Embedded([]), marks, home / "runs")  # type: ignore[arg-type]
    offered = await reflection.propose(None)
    reflection.accept(offered.proposal, range(len(offered.changes)))
    return [f"{change.kind}: {change.new}" for change in offered.changes]


class Embedded(ScriptedModels):
    root = "offline/extractive"

    async def look_around(self) -> None:
        pass

    def resolve(self, name: str | None, *, default: str) -> str:
        return name or default


async def measure(home: Path) -> dict[str, list[float]]:
    """Run the tasks to be measured by; for each kind: right answers, calls, tokens."""
    figures = {}
    for kind in MAKERS:
        right = calls = tokens = 0.0
        for number, task in enumerate(tasks(kind, 2)):
            run = await ask(home, f"{kind}-{number}", task, random.Random(f"{kind} {number}"))
            right += run.answer == task.right
            calls += len(run.of(SubcallStarted))
            tokens += sum(len(m["content"]) for m in run.models.prompts[0]) / 4
            tokens += sum(event.prompt_characters for event in run.of(SubcallStarted)) / 4
        figures[kind] = [right, calls / TASKS, tokens / TASKS]
    return figures


def embedded_ignores_them() -> bool:
    """Whether the embedded model, which follows nothing, answers the same with notes."""
    head = "Question: Where is it?\n\nThe context holds 1 document."
    noted = f"{head}\n\nWhat has worked for questions of this kind:\n- Filter: search first."
    return reply_to([{"role": "user", "content": head}]) == reply_to(
        [{"role": "user", "content": noted}]
    )


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        home = Path(name)
        os.environ["RLM_CONFIG"] = str(home / "config.toml")
        without = await measure(home / "without")
        notes = await learn(home)
        noted = await measure(home / "with")
    print("\nNotes that were proposed by counting, and accepted:")
    for note in notes:
        print(f"  {note}")
    rows = [
        [kind, f"{TASKS}", *(f"{one[at]:,.0f}" for at in range(3) for one in (before, noted[kind]))]
        for kind, before in without.items()
    ]
    heads = ["kind", "tasks", "right, without", "with", "calls, without", "with",
             "tokens a task, without", "with"]  # fmt: skip
    print_table("Built-in tasks, by a script that follows notes", heads, rows)
    same = "yes" if embedded_ignores_them() else "no"
    print(f"\noffline/extractive writes the same code with notes as without: {same}")


if __name__ == "__main__":
    asyncio.run(main())
