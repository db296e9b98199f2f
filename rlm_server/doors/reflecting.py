"""``rlm-server mark`` and ``reflect``: runs are marked, notes proposed, and accepted one by one."""

from __future__ import annotations

import sys

from rlm_server.config import Config, state_dir
from rlm_server.doors.exporting import find_log
from rlm_server.engine.reflect import Reflection
from rlm_server.models import Models
from rlm_server.protocol import ReflectResult
from rlm_server.runs.marks import Marks
from rlm_server.text import clean


def mark_command(run: str, good: bool | None, reason: str) -> int:
    """Mark a run; the exit status is 0. Raises UnknownRunError, LogError."""
    log = find_log(run)
    _marks().set(log.stem, good, clean(reason.strip()))
    said = "not marked any more" if good is None else f"marked {'good' if good else 'bad'}"
    print(f"{log.stem} is {said}.")
    return 0


async def reflect_command(config: Config, model: str | None, *, accept: bool) -> int:
    """Print the changes that marked runs suggest, and ask about each. Raises RlmError."""
    models = Models(config)
    try:
        reflection = Reflection(models, _marks(), state_dir() / "runs")
        result = await reflection.propose(model)
    finally:
        await models.close()
    by = f"proposed by {result.model}" if result.model else "proposed by counting"
    said = f"{result.good} good and {result.bad} bad runs, {by}"
    if not result.changes:
        print(f"Nothing to change: {said}. Mark runs with `rlm-server mark`.")
        return 0
    print(f"# {said}")
    if not accept:
        print(result.diff, end="")
        return 0
    taken = reflection.accept(result.proposal, _asked(result))
    print(f"{len(taken)} of {len(result.changes)} accepted: {result.path}")
    return 0


def _asked(result: ReflectResult) -> list[int]:
    """Ask about each change; the end of the input, or q, leaves out the rest."""
    accepted = []
    for number, change in enumerate(result.changes):
        print(change.diff, end="")
        print(f"Accept {number + 1} of {len(result.changes)}? [y, n, q] ", end="", flush=True)
        answer = sys.stdin.readline().strip().lower()
        print()
        if answer in ("", "q"):
            break
        if answer in ("y", "yes"):
            accepted.append(number)
    return accepted


def _marks() -> Marks:
    return Marks(state_dir() / "marks.jsonl")
