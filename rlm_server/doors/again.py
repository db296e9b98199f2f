"""The command line's way to let past runs go on: ``resume``, ``fork`` and ``rerun``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rlm_server.doors.asking import tell_provenance
from rlm_server.doors.exporting import find_log
from rlm_server.errors import NotResumableError
from rlm_server.protocol import (
    Answer,
    AnswerDiff,
    AnyEvent,
    AskOptions,
    FollowUp,
    ForkParams,
    LimitOverrides,
    Notice,
    Provenance,
    RerunParams,
    ResumeParams,
    RunEnded,
)

if TYPE_CHECKING:
    from rlm_server.engine.run import Run
    from rlm_server.engine.service import Engine

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Let a parser take these commands."""
    resume = commands.add_parser("resume", help="let a run go on from where it stopped")
    fork = commands.add_parser("fork", help="begin a run at an iteration of another one")
    rerun = commands.add_parser("rerun", help="run a run's program again, about changed files")
    for command in (resume, fork, rerun):
        command.add_argument("run", metavar="RUN", help="its id or the beginning of it, or last")
        command.add_argument("--cost", type=float, metavar="DOLLARS", help="what it may cost")
        command.add_argument("--iterations", type=int, help="replies of the root model")
    resume.add_argument(
        "places", metavar="PATH", nargs="*", help="where its files are, if they have moved"
    )
    fork.add_argument("--at", type=int, required=True, metavar="ITERATION")
    fork.add_argument("--code", type=Path, metavar="FILE", help="runs in place of the model's")
    fork.add_argument("--model", help="the root model from there on")
    fork.add_argument("--note", default="", help="what the model is told")


async def again_command(engine: Engine, options: argparse.Namespace) -> int:
    """Let the run go on, print its answer, and return the exit status: 0 only if it is complete.

    What else is to be known, and what there is of another answer, goes to standard error. Raises
    RlmError.
    """
    run_id = find_log(options.run).stem
    limits = LimitOverrides(cost=options.cost, iterations=options.iterations)
    if options.command == "resume":
        places = [os.path.abspath(place) for place in options.places]  # noqa: ASYNC240, PTH100
        asked = ResumeParams(run_id=run_id, limits=limits, places=places)
        run = await engine.durable.resume(asked)
    elif options.command == "rerun":
        run = await engine.durable.rerun(RerunParams(run_id=run_id, limits=limits))
    else:
        code = await asyncio.to_thread(_read_code, options.code) if options.code else None
        run = await engine.durable.fork(
            ForkParams(
                run_id=run_id,
                iteration=options.at,
                code=code,
                options=AskOptions(root_model=options.model, limits=limits),
                note=options.note,
            )
        )
    return await _show(engine, run)


def _read_code(path: Path) -> str:
    """Raises NotResumableError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotResumableError(
            f"The code in {path} can't be read: {error}.", cure="Name a file of Python code."
        ) from error


async def _show(engine: Engine, run: Run) -> int:
    print(f"run {run.run_id}", file=sys.stderr)
    answer: list[str] = []
    drawn: Provenance | None = None
    async for line in engine.follow(run.run_id, 0):
        try:
            event = _decoder.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError):
            continue
        if isinstance(event, Notice):
            print(f"{event.level}: {event.text}", file=sys.stderr)
        elif isinstance(event, AnswerDiff) and not event.same:
            print(event.diff, file=sys.stderr)
        elif isinstance(event, Answer):
            answer.append(event.text)
        elif isinstance(event, FollowUp):
            answer.clear()  # that was an earlier question's
        elif isinstance(event, Provenance):
            drawn = event
        elif isinstance(event, RunEnded) and run.ended and event.seq == run.ended.seq:
            done = event.status == "done"
            if answer or done:
                print("".join(answer), file=sys.stdout if done else sys.stderr)
            if drawn is not None:
                tell_provenance(drawn)
            cost = "unknown" if event.usage.cost is None else f"${event.usage.cost:.4f}"
            print(f"{event.status}: {event.reason} Cost: {cost}.", file=sys.stderr)
            return 0 if done else 1
    return 1
