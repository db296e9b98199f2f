"""Reflecting: proposes strategy notes from marked runs; what a person accepts is used later."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from pathlib import Path

from rlm_server.config import OFFLINE_MODEL
from rlm_server.engine.changes import applied, diff, proposed, write
from rlm_server.engine.digest import Digest, digest
from rlm_server.engine.lessons import FEWEST, lessons
from rlm_server.engine.notes import notes_of, notes_path, read_notes
from rlm_server.engine.prompt import prompt_file
from rlm_server.errors import UnknownProposalError
from rlm_server.models import Account, Models
from rlm_server.protocol import NoteChange, ReflectResult
from rlm_server.runs.marks import Marks
from rlm_server.runs.place import log_path

RUNS_SHOWN = 40
"""Runs of a kind that a model is shown, the latest."""

_KEPT = 8
"""Proposals that can still be accepted."""


class Reflection:
    """Proposals of one server."""

    def __init__(self, models: Models, marks: Marks, log_directory: Path) -> None:
        self._models = models
        self._marks = marks
        self._log_directory = log_directory
        self._proposals: dict[str, tuple[str, list[NoteChange]]] = {}

    async def propose(self, model: str | None) -> ReflectResult:
        """Propose changes to the notes: by a model's advice, else by counting.

        ``model`` is the name of one; by default the root model, and none if that is the embedded
        one. Raises ModelError, UnknownModelError, LogError for notes that can't be read.
        """
        runs = await asyncio.to_thread(self._digests)
        text = await asyncio.to_thread(read_notes)
        await self._models.look_around()
        name = self._models.resolve(model, default=self._models.root)
        by_model = name != OFFLINE_MODEL
        changes: list[NoteChange] = []
        for kind in sorted({run.kind for run in runs}):
            of_kind = [run for run in runs if run.kind == kind]
            if by_model:
                notes = await self._advice(name, kind, of_kind, notes_of(text, kind))
            else:
                notes = lessons(of_kind)
            changes += proposed(text, kind, notes, whole=by_model and bool(notes))
        return self._offer(text, changes, runs, name if by_model else "")

    def accept(self, proposal: str, numbers: Iterable[int]) -> list[NoteChange]:
        """Make these changes of a proposal, counted from 0; return those made.

        Raises UnknownProposalError where it is too old, or the notes were changed since, and
        LogError where they can't be read or written.
        """
        if proposal not in self._proposals:
            raise UnknownProposalError(
                "This proposal was accepted before, is too old, or its server has ended.",
                cure="Reflect once more.",
            )
        before, changes = self._proposals[proposal]
        if read_notes() != before:
            raise UnknownProposalError(
                "The notes were changed since this was proposed.", cure="Reflect once more."
            )
        accepted = [changes[n] for n in sorted(set(numbers)) if 0 <= n < len(changes)]
        if accepted:
            write(notes_path(), applied(before, accepted))
            del self._proposals[proposal]
        return accepted

    def _offer(
        self, text: str, changes: list[NoteChange], runs: list[Digest], model: str
    ) -> ReflectResult:
        name = secrets.token_hex(8)
        self._proposals[name] = text, changes
        for old in list(self._proposals)[:-_KEPT]:
            del self._proposals[old]
        return ReflectResult(
            proposal=name,
            path=str(notes_path()),
            good=sum(run.good for run in runs),
            bad=sum(not run.good for run in runs),
            model=model,
            changes=changes,
            diff=diff(text, applied(text, changes)) if changes else "",
        )

    def _digests(self) -> list[Digest]:
        """The marked runs whose logs are there, in the order in which they were marked."""
        found = []
        for run_id, mark in self._marks.all().items():
            with contextlib.suppress(OSError):
                found.append(digest(log_path(self._log_directory, run_id), mark))
        return found

    async def _advice(
        self, model: str, kind: str, runs: list[Digest], before: list[str]
    ) -> list[str]:
        """What a model makes of the runs of a kind; nothing where they are too few."""
        if len(runs) < FEWEST:
            return []
        said = "\n".join(run.line() for run in runs[-RUNS_SHOWN:])
        now = "\n".join(f"- {note}" for note in before) or "(none)"
        asked = f"Kind of question: {kind}\n\nRuns:\n{said}\n\nAdvice in force:\n{now}"
        completion = await self._models.complete(
            model,
            [
                {"role": "system", "content": prompt_file("reflect")},
                {"role": "user", "content": asked},
            ],
            account=Account("reflect", read_cache=False, write_cache=False),
        )
        lines = [line.strip() for line in completion.text.splitlines()]
        return [line[2:] for line in lines if line.startswith(("- ", "* "))]
