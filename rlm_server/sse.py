"""Server-sent events: the data of each, out of chunks that may end anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def events(chunks: AsyncIterator[bytes], *, longest: int) -> AsyncIterator[bytes]:
    """The data lines of a stream that hold any.

    Raises ValueError for one of more than ``longest`` bytes.
    """
    line = bytearray()
    async for chunk in chunks:
        more, *others = chunk.split(b"\n")
        line += more
        for other in others:
            if data := _data(line):
                yield data
            line = bytearray(other)
        if len(line) > longest:
            raise ValueError("an endless line")
    if data := _data(line):
        yield data


def _data(line: bytearray) -> bytes:
    return bytes(line[5:].strip()) if line.startswith(b"data:") else b""
