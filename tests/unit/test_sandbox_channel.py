"""The inner end of the channel, interrupted at each moment there is."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from queue import Queue
from types import FrameType
from typing import Any

import pytest

from rlm_server.sandbox import channel as module
from rlm_server.sandbox.channel import Channel, Interrupts

LOOKED_AT = {module.__file__, threading.__file__}


class Server:
    """The other end: echoes each call, but for those that it holds, and sends orders."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._held: Queue[dict[str, Any]] = Queue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket.makefile("rb") as stream:
            while head := stream.read(4):
                call = json.loads(stream.read(int.from_bytes(head, "big")))
                reply = {"type": "reply", "id": call["id"], "text": call["prompt"]}
                if call["prompt"] == "held":
                    self._held.put(reply)
                else:
                    self.send(reply)

    def let_go(self) -> None:
        self.send(self._held.get())

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
    assert passed < moment, "the interrupt was lost"
    return False


class Asker:
    """Another thread that asks."""

    def __init__(self, channel: Channel, prompt: str) -> None:
        self.replies: list[str] = []
        self._thread = threading.Thread(target=self._ask, args=(channel, prompt), daemon=True)
        self._thread.start()

    def _ask(self, channel: Channel, prompt: str) -> None:
        self.replies += [reply["text"] for reply in channel.ask([{"prompt": prompt}])]

    def end(self) -> list[str]:
        self._thread.join()
        return self.replies


def until_read(channel: Channel) -> None:
    """Wait until a thread has taken the reading over."""
    while not channel._reading:
        threading.Event().wait(0.001)


@pytest.mark.timeout(60)
def test_calls_can_be_interrupted_at_each_moment(
    ends: tuple[Channel, Interrupts, Server],
) -> None:
    channel, interrupts, server = ends
    moment = 1
    while ask_interrupted_at(moment, channel, interrupts):
        channel.abandon()
        server.send({"type": "execute", "cell": moment})
        assert channel.order() == {"type": "execute", "cell": moment}
        moment += 1
        assert Asker(channel, "c").end() == ["c"]
    assert moment > 50


@pytest.mark.timeout(60)
def test_calls_can_be_interrupted_while_another_thread_reads(
    ends: tuple[Channel, Interrupts, Server],
) -> None:
    channel, interrupts, server = ends
    moment, interrupted = 1, True
    while interrupted:
        other = Asker(channel, "held")
        until_read(channel)
        interrupted = ask_interrupted_at(moment, channel, interrupts)
        server.let_go()
        assert other.end() == ["held"]
        moment += 1
    assert moment > 50


@pytest.mark.timeout(60)
def test_what_a_collector_frees_may_make_calls(
    ends: tuple[Channel, Interrupts, Server],
) -> None:
    channel, _, server = ends
    got: list[str] = []

    class Freed:
        def __del__(self) -> None:
            got.extend(reply["text"] for reply in channel.ask([{"prompt": "freed"}]))

    def ready() -> bool:  # called with the state held, as a collector may run then
        things.clear()
        return True

    things = [Freed()]
    other = Asker(channel, "held")
    until_read(channel)
    channel._wait(ready)
    server.let_go()
    assert (got, other.end()) == (["freed"], ["held"])
