"""Plays a recorded run to an Emacs as a server does that has it from a model, piece by piece.

    python player.py RECORDED DIRECTORY

The request ``bench/play`` has the next ``count`` events of the log RECORDED told: each second
``rate`` of them, or all at once without a rate. With ``join`` small pieces of text that follow
each other are joined as the server joins them, by the same parts of it: emitter, log, follower
and wire. It is answered when all have been told. ``bench/rewind`` lets the next one play from
the start.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from rlm_server.doors.wire import Wire
from rlm_server.engine.emitter import Emitter
from rlm_server.protocol import PROTOCOL_VERSION, AnyEvent, Event, Output, ReplyDelta
from rlm_server.runs.log import RunLog, follow


class Player:
    """Tells events over a wire, and counts those that it has taken from the recording."""

    def __init__(self, recorded: Path, directory: Path, wire: Wire) -> None:
        decoder = msgspec.json.Decoder(AnyEvent)
        self._events: list[Event] = [
            decoder.decode(line) for line in recorded.read_bytes().splitlines()
        ]
        self._directory = directory
        self._wire = wire
        self._plays = count()
        self.rewind()

    def rewind(self) -> None:
        """Begin the run anew, with a log of its own."""
        self._next = self._told = 0
        run_id = self._events[0].run_id
        self._log = RunLog(self._directory / str(next(self._plays)) / f"{run_id}.jsonl")
        self._emitter = Emitter(run_id, self._log, on_failure=_fail)

    async def play(self, *, events: int, rate: float, join: bool) -> int:
        """Tell so many events, or as many as there are; give their number."""
        last = min(self._next + events, len(self._events))
        first, loop = self._next, asyncio.get_running_loop()
        begun = loop.time()
        while self._next < last:
            due = last if not rate else first + int((loop.time() - begun) * rate) + 1
            while self._next < min(due, last):
                self._emit(self._events[self._next], join=join)
                self._next += 1
            await asyncio.sleep(1 / rate if rate else 0)
        self._emitter.flush()
        while self._told < self._emitter.next_seq:
            await asyncio.sleep(0.001)
        return last - first

    def _emit(self, event: Event, *, join: bool) -> None:
        fields: dict[str, Any] = {
            name: getattr(event, name)
            for name in event.__struct_fields__
            if name not in Event.__struct_fields__
        }
        if join and isinstance(event, ReplyDelta | Output):
            self._emitter.stream(type(event), event.node, fields.pop("text"), **fields)
        else:
            self._emitter.emit(type(event), event.node, **fields)
        if self._next == 0:
            self._following = asyncio.create_task(self._tell(self._log))

    async def _tell(self, log: RunLog) -> None:
        async for line in follow(log.path, log, 0):
            self._wire.event(line)
            self._told += 1


def _fail(error: Exception) -> NoReturn:
    raise error


async def serve(recorded: Path, directory: Path) -> None:
    """Answer the requests of one client on stdin and stdout."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), sys.stdout
    )
    wire = Wire(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    player = Player(recorded, directory, wire)
    while (body := await wire.read()) is not None:
        message = msgspec.json.decode(body)
        params = message.get("params") or {}
        result: Any = {}
        match message["method"]:
            case "initialize":
                result = {
                    "protocolVersion": PROTOCOL_VERSION, "serverVersion": "0",
                    "pid": os.getpid(), "rootModel": "m", "subModel": "m", "keysWanted": [],
                    "isolation": "none", "logDirectory": str(directory), "capabilities": {},
                }  # fmt: skip
            case "bench/play":
                events, rate = params["count"], params["rate"]
                result = await player.play(events=events, rate=rate, join=params["join"] is True)
            case "bench/rewind":
                player.rewind()
        if "id" in message:
            reply = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            wire.write(msgspec.json.encode(reply))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
