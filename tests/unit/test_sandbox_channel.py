"""The inner end of the channel, interrupted at each moment there is."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from types import FrameType
from typing import Any

import pytest

from rlm_server.sandbox import channel as module
from rlm_server.sandbox.channel import Channel, Interrupts

LOOKED_AT = {module.__file__, threading.__file__}


class Server:
    """The other end: echoes each call, and sends an order when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket.makefile("rb") as stream:
            while head := stream.read(4):
                call = json.loads(stream.read(int.from_bytes(head, "big")))
                self.send({"type": "reply", "id": call["id"], "text": call["prompt"]})

    def send(self, message: dict[str, Any]) -> None:
        payload = json.dumps(message).encode()
        self._socket.sendall(len(payload).to_bytes(4, "big") + payload)

    def end(self) -> None:
        self._thread.join()


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Interrupts, Server]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        interrupts = Interrupts()
        server = Server(theirs)
        yield Channel(ours, interrupts), interrupts, server
        ours.shutdown(socket.SHUT_RDWR)
        server.end()


def ask_interrupted_at(moment: int, channel: Channel, interrupts: Interrupts) -> bool:
    """Ask, and have SIGINT handled at this moment; False where it was over by then."""
    passed = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in LOOKED_AT or frame.f_code is handler:
            return None
        passed += 1
        if passed == moment:
            sys.settrace(None)
            interrupts.handler(2, frame)
        return trace

    handler = Interrupts.handler.__code__
    before = sys.gettrace()
    interrupts.armed = True
    try:
        sys.settrace(trace)
        channel.ask([{"prompt": "a"}, {"prompt": "b"}])
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        interrupts.disarm()
        channel.abandon()
    return passed >= moment


def ask_one(channel: Channel, replies: list[dict[str, Any]]) -> None:
    replies.extend(channel.ask([{"prompt": "c"}]))


@pytest.mark.timeout(60)
def test_calls_can_be_interrupted_at_each_moment(
    ends: tuple[Channel, Interrupts, Server],
) -> None:
    channel, interrupts, server = ends
    moment = 1
    while ask_interrupted_at(moment, channel, interrupts):
        server.send({"type": "execute", "cell": moment})
        assert channel.order() == {"type": "execute", "cell": moment}
        moment += 1
        replies: list[dict[str, Any]] = []
        other = threading.Thread(target=ask_one, args=(channel, replies))
        other.start()
        other.join()
        assert [reply["text"] for reply in replies] == ["c"]
    assert moment > 50
