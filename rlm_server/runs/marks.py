"""Marks: which runs a person called good or bad, and why; beside the logs, which end with a run.

JSON lines in one file, the last of a run counts. It outlives the index, which is made anew from
logs, and the logs themselves.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec

from rlm_server.errors import LogError
from rlm_server.protocol import Mark
from rlm_server.text import to_json


class _Line(msgspec.Struct, rename="camel"):
    run_id: str
    good: bool | None
    """Null: the mark was taken back."""
    reason: str
    time: float


_decoder = msgspec.json.Decoder(_Line)


class Marks:
    """The marks of a state directory; methods block, from any thread."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._known: tuple[tuple[int, int], dict[str, Mark]] = ((0, 0), {})

    def set(self, run_id: str, good: bool | None, reason: str) -> Mark | None:
        """Mark a run, or take its mark back. Raises LogError."""
        line = _Line(run_id, good, reason, time.time())
        with self._lock:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                file = os.open(self.file, flags, 0o600)
                try:
                    os.write(file, to_json(line) + b"\n")
                finally:
                    os.close(file)
            except OSError as error:
                raise LogError(
                    f"The mark can't be kept in {self.file}: {error.strerror}.",
                    cure="Free some disk space, or set RLM_STATE to a directory to write to.",
                ) from error
        return self.all().get(run_id)

    def all(self) -> dict[str, Mark]:
        """The marks by run; lines that nothing can be made of are passed over."""
        with self._lock:
            try:
                found = self.file.stat()
                version = (found.st_mtime_ns, found.st_size)
                if version != self._known[0]:
                    self._known = (version, _read(self.file))
            except FileNotFoundError:
                return {}
            return dict(self._known[1])


def _read(file: Path) -> dict[str, Mark]:
    marks: dict[str, Mark] = {}
    for text in file.read_bytes().splitlines():
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            continue
        marks.pop(line.run_id, None)
        if line.good is not None:
            marks[line.run_id] = Mark(good=line.good, reason=line.reason, time=line.time)
    return marks
