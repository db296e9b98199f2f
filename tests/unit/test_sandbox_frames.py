from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_server.sandbox.frames import MAX_FRAME, FrameError, Frames, pack
from rlm_server.sandbox.messages import Done, FromCell, Output
from rlm_server.sandbox.worker import attach, new_frames
from rlm_server.text import clean


def feed(frames: Frames[FromCell], data: bytes, cuts: list[int]) -> None:
    """Hand bytes to the reader in pieces, as a socket would."""
    at = 0
    edges = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for edge in edges:
        while at < edge and not frames.ended:
            room = frames.get_buffer(-1)
            piece = data[at : min(edge, at + len(room))]
            room[: len(piece)] = piece
            frames.buffer_updated(len(piece))
            at += len(piece)


def drain(frames: Frames[FromCell]) -> list[FromCell]:
    """Take all that has arrived, without a loop."""
    found = []
    while frames._queue:
        found.append(frames._queue.popleft()[1])
    return found


def output(text: str) -> Output:
    return Output(token="t", stream="stdout", text=text)


@given(texts=st.lists(st.text(max_size=400), max_size=8), cuts=st.lists(st.integers(0, 5000)))
def test_messages_arrive_however_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    frames = new_frames()
    messages = [output(clean(text)) for text in texts]
    feed(frames, b"".join(pack(msgspec.json.encode(m)) for m in messages), cuts)
    assert drain(frames) == messages
    assert not frames.ended


@settings(max_examples=500)
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_garbage_gives_known_messages_or_ends_the_channel(data: bytes, cuts: list[int]) -> None:
    frames = new_frames()
    feed(frames, data, cuts)
    for message in drain(frames):
        assert isinstance(message, FromCell)
    if frames.ended:
        assert isinstance(frames._end, FrameError)


@settings(max_examples=500)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["type", "token", "stream", "text", "id", "error", "ready"]), inner
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_a_known_message_or_ends_the_channel(value: object) -> None:
    frames = new_frames()
    feed(frames, pack(msgspec.json.encode(value)), [])
    assert frames.ended or all(isinstance(m, FromCell) for m in drain(frames))


def test_a_frame_larger_than_the_buffer() -> None:
    frames = new_frames()
    feed(frames, pack(msgspec.json.encode(output("x" * 3_000_000))) * 2, [1, 5, 300_000])
    assert [len(m.text) for m in drain(frames) if isinstance(m, Output)] == [3_000_000] * 2


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_long_frame_is_refused_before_memory_is_taken(length: int) -> None:
    frames = new_frames()
    feed(frames, length.to_bytes(4, "big"), [])
    assert frames.ended
    assert frames._large is None


async def test_a_reader_that_lags_stops_the_peer() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    frames = new_frames()
    await attach(frames, ours)
    frame = pack(msgspec.json.encode(output("x" * 100_000)))
    loop = asyncio.get_running_loop()

    async def flood() -> None:
        for _ in range(300):
            await loop.sock_sendall(theirs, frame)

    flooding = asyncio.create_task(flood())
    while not frames._paused:
        await asyncio.sleep(0)
    assert frames._queued < 16 << 20
    for _ in range(300):
        await frames.get()
    await flooding
    frames.end(EOFError())
    theirs.close()


async def test_senders_wait_for_a_peer_that_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    frames = new_frames()
    await attach(frames, ours)
    for _ in range(2):
        await frames.send(b"x" * (8 << 20))
        if not frames._writable.is_set():
            break
    waiting = asyncio.create_task(frames.send(b"x"))
    await asyncio.sleep(0)
    assert not waiting.done()
    frames.end(EOFError())
    with pytest.raises(EOFError):
        await waiting
    theirs.close()


async def test_the_end_is_seen_after_what_was_sent_before_it() -> None:
    ours, theirs = socket.socketpair()
    frames = new_frames()
    await attach(frames, ours)
    done = Done(token="t", error="", answer=None, ready=False)
    theirs.sendall(pack(msgspec.json.encode(done)))
    theirs.close()
    assert await frames.get() == done
    with pytest.raises(EOFError):
        await frames.get()
    frames.end(EOFError())
    await asyncio.sleep(0)


@given(st.text(st.characters(codec=None), max_size=200))
def test_sanitized_text_is_valid_and_visible(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert len(cleaned) <= len(text)
