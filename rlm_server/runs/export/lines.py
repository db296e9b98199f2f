"""The events of a log in any state: what can't be read is counted, and passed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlm_server.protocol import AnyEvent

LONGEST_LINE = 1 << 22
"""Bytes; an event takes some 64 kB, so what is longer is no event."""


@dataclass
class Lost:
    """What is missing of a log; told last, if there is anything."""

    lines: int
    """Lines that are no events of this run."""
    events: int
    """Events that the numbering shows to be missing."""


class _Known(msgspec.Struct):
    """What every event of every version has."""

    kind: str
    run_id: str = msgspec.field(name="runId")
    seq: int = 0


_event = msgspec.json.Decoder(AnyEvent)
_known = msgspec.json.Decoder(_Known)


class Reader:
    """Reads events, and counts what it can't."""

    def __init__(self) -> None:
        self.lost = Lost(0, 0)
        self._run_id = ""
        self._seen: set[int] = set()

    def events(self, path: Path) -> Iterator[AnyEvent]:
        """Yield the events of a log as it is now, in their order. Raises OSError."""
        last = -1
        with path.open("rb") as file:
            left = path.stat().st_size  # of a log that grows, what there is now
            while left > 0 and (line := file.readline(min(left, LONGEST_LINE))):
                left -= len(line)
                event = self._decode(line) if line.endswith(b"\n") else None
                if event is None:
                    self.lost.lines += 1
                elif event.seq not in self._seen:  # lines may stand twice
                    self._seen.add(event.seq)
                    last = event.seq
                    if not isinstance(event, _Known):
                        yield event
        # By the last one, since a damaged number in between may say anything.
        self.lost.events = max(0, last + 1 - len(self._seen))

    def _decode(self, line: bytes) -> AnyEvent | _Known | None:
        event: AnyEvent | _Known
        try:
            event = _event.decode(line)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
            try:
                event = _known.decode(line)
            except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
                return None
            if event.kind in _KINDS:
                return None  # an event that it is not
        self._run_id = self._run_id or event.run_id
        return event if event.run_id == self._run_id else None


_KINDS = {kind.__struct_config__.tag for kind in AnyEvent.__args__}
