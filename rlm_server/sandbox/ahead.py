"""Sub-calls made ahead: a loop's calls go out together, and each turn takes its own answer.

A call made ahead is only an answer that waits: it is taken by the next call with the same prompt
to the same model, which would have got just that one. A wrong guess costs a call: where a loop may
end early, or go on otherwise, only few are made ahead at first, and none where a limit is near.

Runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .channel import Batch, Channel
from .foresight import clock

_STREAMS = 8  # loops within loops
_FIRST = 2  # calls that are made ahead at first; each that proves right doubles them
_REFUSED = frozenset({"limit", "budget"})

Call = dict[str, Any]
Reply = dict[str, Any]
_Key = tuple[str, str | None]


@dataclass
class _Flight:
    key: _Key
    batch: Batch
    number: int
    """Of all that were made ahead, in their order."""


class _Stream:
    """The calls of one loop, some of them in flight."""

    def __init__(
        self,
        calls: Iterator[Call],
        line: int,
        certain: Callable[[], bool],
        waited: Callable[[float], None],
    ) -> None:
        self.calls = calls
        self.line = line
        self.certain = certain
        self.waited = waited
        self.taken = 0
        self.next: deque[Call] = deque()
        self.flights: deque[_Flight] = deque()
        self.begun = False

    def window(self, most: int) -> int:
        """How many calls it may have in flight: few at first, where they may be in vain."""
        return most if self.certain() else min(most, _FIRST << min(self.taken, 30))

    def has(self, count: int) -> bool:
        """Whether there are so many calls still to be sent."""
        while len(self.next) < count:
            call = next(self.calls, None)
            if call is None:
                return False
            self.next.append(call)
        return True


class Ahead:
    """Makes calls ahead over one channel, and hands their answers out."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._streams: list[_Stream] = []
        self._sent = 0
        self._in_vain = 0
        self._thread = threading.get_ident()

    def expect(
        self,
        calls: Iterator[Call],
        line: int,
        certain: Callable[[], bool],
        waited: Callable[[float], None],
    ) -> None:
        """Expect these calls, of the loop in this line; none is made before the first is due.

        ``certain`` says whether those given so far will be made, unless one of them fails;
        ``waited`` is told the seconds that answers are waited for.
        """
        if threading.get_ident() != self._thread:
            return
        self._streams = [stream for stream in self._streams if stream.flights][-_STREAMS:]
        self._streams.append(_Stream(calls, line, certain, waited))

    def ask(self, calls: list[Call]) -> list[Reply]:
        """Make calls that are due now. Raises AbandonedError."""
        reply = self._take(calls[0]) if len(calls) == 1 else None
        if reply is not None:
            return [reply]
        replies = self._channel.ask(calls)
        refused = [n for n, reply in enumerate(replies) if is_refused(reply)]
        if refused and self._land():
            # What was set aside for calls made ahead is free again, as if they were yet to come.
            self._in_vain += len(refused)
            again = self._channel.ask([calls[n] for n in refused])
            for number, reply in zip(refused, again, strict=True):
                replies[number] = reply
        return replies

    def end(self) -> int:
        """The cell has ended, and nobody asks for what is left; give how many calls were in vain.

        Those that its code never came to, and those that a limit refused and that were repeated.
        """
        in_vain, self._in_vain, self._streams = self._in_vain, 0, []
        return in_vain

    def _take(self, call: Call) -> Reply | None:
        """The answer to a call that was made ahead; None where there is none."""
        if call["function"] != "llm_query" or threading.get_ident() != self._thread:
            return None
        key = (call["prompt"], call["model"])
        if not any(self._flights_of(key)):
            for stream in reversed(self._streams):
                if self._begin(stream, key):
                    break
        # Of several, the one that was sent first: the order of the answers is that of the calls.
        found = min(self._flights_of(key), key=lambda one: one[1].number, default=None)
        if found is None:
            return None
        stream, flight = found
        self._in_vain -= 1
        self._fill(stream, but_one=True)
        begun = clock()
        reply = self._channel.finish(flight.batch)
        stream.waited(clock() - begun)
        stream.flights.remove(flight)
        stream.taken += 1
        if is_refused(reply):
            self._in_vain += 1
            return None
        return reply

    def _flights_of(self, key: _Key) -> Iterator[tuple[_Stream, _Flight]]:
        for stream in self._streams:
            for flight in stream.flights:
                if flight.key == key:
                    yield stream, flight

    def _begin(self, stream: _Stream, key: _Key) -> bool:
        """Send a loop's first calls, if this is the first of them and there are more."""
        if stream.begun:
            return False
        if not stream.has(1) or _key(stream.next[0]) != key or not stream.has(2):
            return False
        stream.begun = True
        self._channel.send({"type": "ahead", "token": self._channel.token, "line": stream.line})
        self._fill(stream)
        return True

    def _fill(self, stream: _Stream, *, but_one: bool = False) -> None:
        """Send calls as long as there is room; ``but_one`` of those in flight is being taken."""
        while stream.has(1) and not self._channel.full():
            if len(stream.flights) - but_one >= stream.window(self._channel.window):
                return
            call = stream.next.popleft()
            try:
                batch = self._channel.begin(call)
            except ValueError:  # too long, which the call itself will say
                stream.calls = iter(())
                return
            self._sent += 1
            self._in_vain += 1
            stream.flights.append(_Flight(_key(call), batch, self._sent))

    def _land(self) -> bool:
        """Wait for all that is in flight; whether there was anything."""
        flights = [flight for stream in self._streams for flight in stream.flights]
        for flight in flights:
            self._channel.finish(flight.batch)
        return bool(flights)


def is_refused(reply: Reply) -> bool:
    """Whether a limit forbade a call, so that it was not made."""
    return reply["error"] is not None and reply["error"]["kind"] in _REFUSED


def _key(call: Call) -> _Key:
    return call["prompt"], call["model"]
