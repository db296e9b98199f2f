"""The logs that make up a run: its own, before it the beginning of what it was forked from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from rlm_server.protocol import RunForked
from rlm_server.runs.lines import Sieve, Voids, mark_of, renamed, void_ranges, voided
from rlm_server.runs.place import log_path

DEEPEST = 1000
"""Forks of forks; more of them are rather a circle that someone has made by hand."""


class Segment(NamedTuple):
    """A stretch of one log."""

    path: Path
    run_id: str
    first: int
    """Number of its first event."""
    last: int | None
    """Number of its last event; None: as far as the log goes."""


_forked = msgspec.json.Decoder(RunForked)


def forked(path: Path) -> RunForked | None:
    """What the log of a fork begins with; None for other logs."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        event = _forked.decode(line)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None
    return event if event.run_id == path.stem else None


def chain(path: Path) -> list[Segment]:
    """The stretches of logs that make up a run, in order.

    A parent that is gone leaves a gap, which readers are told of.
    """
    segments: list[Segment] = []
    last: int | None = None
    while len(segments) < DEEPEST and path.exists():
        fork = forked(path)
        first = fork.parent_seq + 1 if fork else 0
        segments.append(Segment(path, path.stem, first, last))
        if fork is None:
            break
        last = fork.parent_seq if last is None else min(last, fork.parent_seq)
        path = log_path(path.parent, fork.parent_run_id)
    return segments[::-1]


class Reader:
    """Gives the events of a run from the lines of its logs, as views are to have them."""

    def __init__(self, segments: list[Segment]) -> None:
        """Take the segments as ``chain`` gives them; the last is the run's own."""
        self.segments = segments
        self.run_id = segments[-1].run_id
        self._voids = Voids(
            span for one in segments for span in void_ranges(one.path, one.run_id, one.last)
        )
        self._sieve = Sieve(self.run_id)

    def earlier(self) -> Iterator[bytes]:
        """The events of all logs but the run's own."""
        for path, run_id, first, last in self.segments[:-1]:
            sieve = Sieve(run_id, max(first, self._sieve.next))
            with path.open("rb") as file:
                for line in file:
                    for good in sieve.take(line.rstrip(b"\n")):
                        mark = mark_of(good, run_id)
                        if mark is None or (last is not None and mark.seq > last):
                            break
                        yield from self.take(renamed(good, run_id, self.run_id))
                    if last is not None and sieve.next > last + 1:
                        break

    def lines(self) -> Iterator[bytes]:
        """All events as the logs have them now; a torn last line is passed over."""
        yield from self.earlier()
        with self.segments[-1].path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield from self.take(line[:-1])
        yield from self.finish()

    def take(self, line: bytes) -> list[bytes]:
        """What a line of the run's own log, without its newline, gives."""
        return [self._shown(good) for good in self._sieve.take(line)]

    def finish(self) -> list[bytes]:
        """What is left when the log has ended."""
        return [self._shown(good) for good in self._sieve.finish()]

    @property
    def lost(self) -> int:
        """Events that are damaged or missing, of those that have been asked for."""
        return self._sieve.lost

    def _shown(self, line: bytes) -> bytes:
        if not self._voids.ranges:
            return line
        mark = mark_of(line, self.run_id)
        return voided(line, mark, self.run_id) if mark and mark.seq in self._voids else line


def read(path: Path) -> Reader:
    """A reader for the run with this log."""
    return Reader(chain(path) or [Segment(path, path.stem, 0, None)])


class Numbers(NamedTuple):
    """How far a run's events are numbered."""

    last: int
    """Of the last one that is shown, -1 where there is none."""
    free: int
    """The one that an event to be appended gets."""


def numbers(path: Path) -> Numbers:
    """Count a run's events. Reads its whole log: not for the event loop."""
    sieve = Sieve(path.stem, (fork.parent_seq + 1) if (fork := forked(path)) else 0)
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                sieve.take(line[:-1])
    free = sieve.free
    sieve.finish()
    return Numbers(sieve.next - (not sieve.told_end), free)


def events_of(path: Path, last: int | None = None) -> Iterator[bytes]:
    """All events of a run as its logs have them now; a torn last line is passed over.

    ``last``: only those up to that number, as if the log ended there.
    """
    if last is not None:
        for line in events_of(path):
            mark = mark_of(line, path.stem)
            if mark is None or mark.seq > last:
                return
            yield line
        return
    yield from read(path).lines()
