"""The wire: events beside each other are one message, and nothing overtakes anything."""

import asyncio
import json
import os
from typing import Any

from rlm_server.doors.wire import EVENTS_SIZE, Wire


async def connected() -> tuple[Wire, asyncio.StreamReader]:
    """A wire that writes into a pipe, and what reads at its other end."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(theirs, "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    return Wire(asyncio.StreamReader(), writer), reader


async def messages(reader: asyncio.StreamReader) -> list[Any]:
    """All messages until the end."""
    other = Wire(reader, None)  # type: ignore[arg-type]
    found = []
    while (body := await other.read()) is not None:
        found.append(json.loads(body))
    return found


def told(message: Any) -> list[int]:
    assert message["method"] == "rlm/events"
    return [event["seq"] for event in message["params"]["events"]]


async def test_events_told_at_once_are_one_message() -> None:
    wire, reader = await connected()
    for seq in range(3):
        wire.event(b'{"seq":%d}' % seq)
    await asyncio.sleep(0)
    wire.event(b'{"seq":3}')
    wire.close()
    assert [told(message) for message in await messages(reader)] == [[0, 1, 2], [3]]


async def test_events_keep_their_place_among_other_messages() -> None:
    wire, reader = await connected()
    wire.write(b'{"id":1}')
    wire.event(b'{"seq":0}')
    wire.event(b'{"seq":1}')
    wire.write(b'{"id":2}')
    wire.event(b'{"seq":2}')
    wire.close()
    first, events, second, rest = await messages(reader)
    assert (first["id"], told(events), second["id"], told(rest)) == (1, [0, 1], 2, [2])


async def test_a_message_of_events_ends_soon_after_its_size_is_reached() -> None:
    wire, reader = await connected()
    text = b"x" * (EVENTS_SIZE // 2)
    for seq in range(5):
        wire.event(b'{"seq":%d,"text":"%b"}' % (seq, text))
    wire.close()
    assert [told(message) for message in await messages(reader)] == [[0, 1], [2, 3], [4]]
