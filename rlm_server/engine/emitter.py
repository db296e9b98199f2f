"""The emitter: numbers a run's events, joins small pieces of text, and writes them to the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from rlm_server.engine.replay import Replay
from rlm_server.errors import LogError
from rlm_server.protocol import MAX_EVENT_TEXT, Event, Notice, Output, ReplyDelta, ReplyDone
from rlm_server.runs.log import RunLog
from rlm_server.text import pieces

E = TypeVar("E", bound=Event)

JOIN_SECONDS = 0.05
"""How long a piece of streamed text waits for more of its kind."""


class Emitter:
    """Writes the events of one run. Only for the event loop's thread.

    The first event that the log does not take calls ``on_failure``; later ones are dropped.
    """

    def __init__(
        self,
        run_id: str,
        log: RunLog,
        *,
        on_failure: Callable[[LogError], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.run_id = run_id
        self.log = log
        self._on_failure = on_failure
        self._failed = False
        self._clock = clock
        self.replay: Replay | None = None
        """Where given, what the log has already is not written again."""
        self._seq = 0
        self._held: dict[str, list[Event]] = {}
        self._waiting: tuple[type[Event], str, dict[str, Any]] | None = None
        self._text: list[str] = []
        self._length = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def next_seq(self) -> int:
        """Number of the next event."""
        return self._seq

    def emit(self, event: type[E], node: str = "0", **fields: Any) -> E:
        """Write an event, after the text that waits, and return it."""
        self.flush()
        if self.replay is not None and (told := self.replay.told(event, node, fields)):
            return event(run_id=self.run_id, seq=told[0], time=told[1], node=node, **fields)
        return self._write(event, node, fields)

    def hold(self, node: str) -> None:
        """Keep back what happens at and below a node, but for its reply and its notices."""
        self.flush()
        self._held[node] = []

    def release(self, node: str, *, drop: bool = False) -> list[Event]:
        """Write what was kept back, unless it is to be dropped, and return it."""
        self.flush()
        events = self._held.pop(node)
        if not drop:
            for event in events:
                self._put(event)
        return events

    def go_on(self, seq: int) -> None:
        """Give the next event this number."""
        self._seq = seq

    def stream(self, event: type[Event], node: str, text: str, **fields: Any) -> None:
        """Write a piece of text, joined with its neighbours of the same kind."""
        if self.replay is not None and event is Output:
            text = self.replay.unprinted(node, fields["cell"], fields["stream"], text)
        if not text:
            return
        kind = (event, node, fields)
        if self._waiting != kind:
            self.flush()
            self._waiting = kind
        self._text.append(text)
        self._length += len(text)
        if self._length >= MAX_EVENT_TEXT:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(JOIN_SECONDS, self.flush)

    def flush(self) -> None:
        """Write the text that waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting is None:
            return
        (event, node, fields), text = self._waiting, "".join(self._text)
        self._waiting, self._text, self._length = None, [], 0
        for piece in pieces(text, MAX_EVENT_TEXT):
            self._write(event, node, {**fields, "text": piece})

    def _write(self, event: type[E], node: str, fields: dict[str, Any]) -> E:
        made = event(run_id=self.run_id, seq=self._seq, time=self._clock(), node=node, **fields)
        self._put(made)
        return made

    def _put(self, made: Event) -> None:
        if self._held and (held := self._held_back(made)) is not None:
            held.append(made)
            return
        made.seq = self._seq
        if not self._failed:
            try:
                self.log.append(made)
            except LogError as error:
                self._failed = True
                self._on_failure(error)
        self._seq += 1

    def _held_back(self, event: Event) -> list[Event] | None:
        """Where an event has to wait: with the innermost node that is held."""
        place = event.node
        if isinstance(event, ReplyDelta | ReplyDone | Notice):
            place = place.rpartition(".")[0]
        while place:
            if place in self._held:
                return self._held[place]
            place = place.rpartition(".")[0]
        return None
