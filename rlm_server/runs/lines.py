"""Reading a log's lines: each is checked, what is damaged is passed over, and that is told."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from rlm_server.protocol import Notice, RunResumed, Void
from rlm_server.text import to_json

MOST_LOST = 10_000
"""Numbers that a gap may hold and still be filled; a larger one at the end, where nothing confirms
it, is rather a damaged number."""


class Mark(NamedTuple):
    """What every line has, whatever version wrote it."""

    kind: str
    run_id: str
    seq: int
    time: float


_anything = msgspec.json.Decoder()
_resumed = msgspec.json.Decoder(RunResumed)


def mark_of(line: bytes, run_id: str) -> Mark | None:
    """What a line is; None where it is damaged, or belongs to another run."""
    try:
        # All of it is decoded: what is only passed over need not be valid.
        found = _anything.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("runId") != run_id:
        return None
    kind, seq, when = found.get("kind"), found.get("seq"), found.get("time")
    if not isinstance(kind, str) or type(seq) is not int or not 0 <= seq < 1 << 53:
        return None
    return Mark(kind, run_id, seq, when) if isinstance(when, int | float) else None


class Sieve:
    """Takes the lines of one log in order and gives those that count, numbered without gaps.

    A line counts if it belongs to the run and its number follows. A jump in the numbers is
    believed once the next line confirms it; what is lost in between is told in its place.
    """

    def __init__(self, run_id: str, first: int = 0) -> None:
        """``first`` is the number that the log's first line should have."""
        self.lost = 0
        """Events that should be there and are not."""
        self.next = first
        """Number of the event that comes next."""
        self.told_end = False
        """Whether a notice that the end is damaged has taken that number."""
        self._run_id = run_id
        self._damaged = 0
        self._held: tuple[Mark, bytes] | None = None

    def take(self, line: bytes) -> list[bytes]:
        """Give what can be given now that a whole line, without its newline, has come."""
        mark = mark_of(line, self._run_id)
        if mark is None:
            self._damaged += bool(line)
            return []
        if self._held is not None:
            (held, text), self._held = self._held, None
            if mark.seq == held.seq + 1:
                return [*self._jump(held, text), *self._give(mark, line)]
            if held.seq == mark.seq + 1 and mark.seq == self.next:  # they have changed places
                return [*self._give(mark, line), *self._give(held, text)]
            self._damaged += 1  # nothing follows on that number, so it was wrong
            if mark.seq == self.next:
                given = self._give(mark, line)
                self._damaged = int(held.seq > mark.seq)  # unless its place is taken, it is lost
                return given
        if mark.seq == self.next:
            return self._give(mark, line)
        if mark.seq > self.next:
            self._held = (mark, line)
        else:
            self._damaged += 1
        return []

    def finish(self) -> list[bytes]:
        """Give the rest, when no more lines come."""
        given: list[bytes] = []
        if self._held is not None:
            (mark, text), self._held = self._held, None
            if mark.seq <= self.next + MOST_LOST:
                given = self._jump(mark, text)
            else:
                self._damaged += 1
        if self._damaged:
            self.lost += self._damaged
            self.told_end = True
            given.append(self._tell(f"The end of this log is damaged: {_count(self._damaged)}."))
            self._damaged = 0
        return given

    @property
    def free(self) -> int:
        """The number that an event to be appended gets; those of damaged lines are taken."""
        held = self._held[0].seq + 1 if self._held else 0
        return max(held, self.next + self._damaged)

    def _give(self, mark: Mark, line: bytes) -> list[bytes]:
        self.next, self._damaged = mark.seq + 1, 0
        return [line]

    def _jump(self, mark: Mark, line: bytes) -> list[bytes]:
        count = mark.seq - self.next
        self.lost += count
        told = self._tell(f"This log is damaged: {_count(count)} here.")
        voids = [
            to_json(Void(run_id=self._run_id, seq=seq, time=mark.time, node="0"))
            for seq in range(self.next + 1, mark.seq if count <= MOST_LOST else 0)
        ]
        return [told, *voids, *self._give(mark, line)]

    def _tell(self, text: str) -> bytes:
        return to_json(
            Notice(
                run_id=self._run_id, seq=self.next, time=0.0, node="0", level="warning", text=text
            )
        )


def _count(lost: int) -> str:
    return "one event is lost" if lost == 1 else f"{lost:,} events are lost"


class Voids:
    """The events that no longer count, because a resumed run has made them anew."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take ranges of numbers, their ends included."""
        self.ranges = sorted(ranges)

    def __contains__(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self.ranges)


def void_ranges(path: Path, run_id: str, last: int | None) -> list[tuple[int, int]]:
    """What a log, up to the event numbered ``last``, says of events that no longer count."""
    found = []
    for line in _resumptions(path):
        try:
            event = _resumed.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            continue
        if event.run_id == run_id and (last is None or event.seq <= last):
            found += event.void
    return found


def _resumptions(path: Path) -> Iterator[bytes]:
    """The lines of a log that tell of a resume; the others are not parsed."""
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # it is empty
            return
        with mapped:
            at = mapped.find(_RESUMED)
            while at >= 0:
                end = mapped.find(b"\n", at)
                if end < 0:
                    return
                if at == 0 or mapped[at - 1] == 10:
                    yield mapped[at:end]
                at = mapped.find(_RESUMED, end)


_RESUMED = b'{"kind":"runResumed"'


def voided(line: bytes, mark: Mark, run_id: str) -> bytes:
    """A line that holds the place of one that no longer counts."""
    return to_json(Void(run_id=run_id, seq=mark.seq, time=mark.time, node="0"))


def renamed(line: bytes, parent: str, run_id: str) -> bytes:
    """A line of a parent's log as a line of its fork's."""
    return line.replace(f'"runId":"{parent}"'.encode(), f'"runId":"{run_id}"'.encode(), 1)
