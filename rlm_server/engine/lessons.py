"""Lessons from marked runs by counting: what good runs of a kind did and bad ones did not."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from rlm_server.engine.digest import Digest

FEWEST = 2
"""Good runs of a kind that teach anything."""

_CLEAR = 0.5
"""Difference of shares, between good and bad runs, that is told."""

_ALL = 3
"""Good runs that, where there is no bad one, have to agree."""

Has = Callable[[Digest], bool]

_HABITS: tuple[tuple[str, Has, str, str], ...] = (
    (
        "Filter",
        lambda run: run.searched_first,
        "search with code before the first call to a model",
        "do not spend time on searching with code first",
    ),
    (
        "Calls",
        lambda run: bool(run.prompts),
        "have a model read what matters",
        "do without calls to models; code alone answers it",
    ),
    (
        "Batches",
        lambda run: run.batched,
        "ask about all pieces in one batch",
        "ask about pieces one by one",
    ),
    (
        "Recursion",
        lambda run: run.recursed,
        "start child runs for the parts",
        "start no child runs",
    ),
    (
        "Proof",
        lambda run: run.places > 0,
        "name the places that prove the answer as path:line",
        "name no places",
    ),
    (
        "Quotations",
        lambda run: run.doubts == 0,
        "quote only what cite() has found",
        "quote freely",
    ),
)
"""Topic, how it is told that a run has the habit, and the advice for it and against it."""


def lessons(runs: Sequence[Digest]) -> list[str]:
    """Notes from the runs of one kind; none where they are too few, or alike."""
    good = [run for run in runs if run.good]
    bad = [run for run in runs if not run.good]
    if len(good) < FEWEST:
        return []
    found = [_habit(good, bad, *habit) for habit in _HABITS]
    found += [_pieces(good, bad), _iterations(good, bad)]
    return [note for note in found if note]


def topic(note: str) -> str:
    """What a note is about: its words up to the colon. A newer note of a topic replaces it."""
    head, colon, _ = note.partition(":")
    return head.strip().lower() if colon and len(head) <= 24 else ""


def _habit(good: list[Digest], bad: list[Digest], name: str, has: Has, do: str, avoid: str) -> str:
    with_it = sum(map(has, good))
    share = with_it / len(good)
    if not bad:
        told = share == 1 and len(good) >= _ALL
        return f"{name}: {do} ({with_it} of {len(good)} good runs did)." if told else ""
    bad_share = sum(map(has, bad)) / len(bad)
    if abs(share - bad_share) < _CLEAR:
        return ""
    counts = f"{with_it} of {len(good)} good runs did, {sum(map(has, bad))} of {len(bad)} bad ones"
    return f"{name}: {do if share > bad_share else avoid} ({counts})."


def _pieces(good: list[Digest], bad: list[Digest]) -> str:
    sizes = [run.piece for run in good if run.piece]
    if len(sizes) < FEWEST:
        return ""
    size = int(statistics.median(sizes))
    others = [run.piece for run in bad if run.piece]
    other = int(statistics.median(others)) if others else 0
    if bad and not (other and max(size, other) >= 2 * min(size, other)):
        return ""
    against = f"; bad runs gave about {_round(other):,}" if other else ""
    return f"Pieces: give a sub-call about {_round(size):,} characters{against}."


def _iterations(good: list[Digest], bad: list[Digest]) -> str:
    if not bad:
        return ""
    few, many = (int(statistics.median([run.iterations for run in runs])) for runs in (good, bad))
    if few * 2 > many:
        return ""
    return f"Iterations: good runs needed about {few}; if it takes {many}, start over otherwise."


def _round(size: int) -> int:
    """Two digits that mean something."""
    unit: int = 10 ** max(0, len(str(size)) - 2)
    return size // unit * unit
