"""The command line's view of past runs: list them, and remove those that nobody wants."""

from __future__ import annotations

import argparse
import re
import time
from typing import TYPE_CHECKING

from rlm_server.config import state_dir
from rlm_server.protocol import RunsParams, RunSummary

if TYPE_CHECKING:
    from rlm_server.runs.index import Index

_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def runs_command(options: argparse.Namespace) -> int:
    """Do what the options say; return the exit status. Raises RlmError."""
    from rlm_server.runs.index import Index

    index = Index(state_dir() / "runs", state_dir() / "runs.db")
    if options.action == "list":
        return _list(index, options)
    return _prune(index, options)


def add_runs(runs: argparse.ArgumentParser) -> None:
    """Let a parser take the options of ``runs``."""
    actions = runs.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the newest runs, newest first")
    listing.add_argument("words", nargs="*", help="that the question, project or model holds")
    listing.add_argument("--project")
    listing.add_argument("--limit", type=int, default=20)
    prune = actions.add_parser("prune", help="remove runs; without --yes, only say which")
    prune.add_argument("--older-than", type=_age, metavar="90d", help="days, weeks, months, years")
    prune.add_argument("--larger-than", type=_size, metavar="10M", help="of the log")
    prune.add_argument("--yes", action="store_true", help="really remove them")


def _list(index: Index, options: argparse.Namespace) -> int:
    wanted = RunsParams(
        limit=max(1, options.limit), project=options.project, text=" ".join(options.words)
    )
    found = index.find(wanted, ())
    for run in found.runs:
        print(_line(run))
    print(f"{len(found.runs):,} of {found.total:,} runs.")
    return 0


def _prune(index: Index, options: argparse.Namespace) -> int:
    if options.older_than is None and options.larger_than is None:
        print("Say which: --older-than 90d, --larger-than 10M, or both.")
        return 2
    from rlm_server.runs.retention import Retention
    from rlm_server.runs.texts import Texts

    retention = Retention(index, Texts(state_dir() / "texts"))
    choice = retention.choose(older_than=options.older_than, larger_than=options.larger_than)
    for run in choice.chosen:
        print(_line(run))
    for run in choice.needed:
        print(f"{run.run_id}  stays: a fork of it does")
    total = _shown(sum(run.bytes for run in choice.chosen))
    count = f"{len(choice.chosen):,} run{'s' * (len(choice.chosen) != 1)}"
    if not options.yes:
        print(f"{count}, {total}. Nothing was removed; --yes removes them.")
        return 0
    freed = retention.remove_all(choice.chosen)
    print(f"{count} removed, {_shown(freed)} freed.")
    return 0


def _line(run: RunSummary) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))
    question = " ".join(run.question.split())[:60]
    return f"{run.run_id}  {day}  {run.status:11}  {_shown(run.bytes):>9}  {question}"


def _shown(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / (1 << 10):.1f} KiB"


def _age(text: str) -> float:
    """Seconds."""
    match = re.fullmatch(r"(\d+)([dwmy])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no age such as 90d, 12w, 6m or 1y")
    return int(match[1]) * _DAYS[match[2]] * 86_400.0


def _size(text: str) -> int:
    """Bytes."""
    match = re.fullmatch(r"(\d+)([kmg]?)b?", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no size such as 500K, 10M or 1G")
    return int(match[1]) * _BYTES[match[2]]
