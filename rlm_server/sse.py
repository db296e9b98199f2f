"""Server-sent events: the data of each, out of chunks that may end anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def events(chunks: AsyncIterator[bytes], *, longest: int) -> AsyncIterator[bytes]:
    """The data lines of a stream. Raises ValueError for one of more than ``longest`` bytes."""
    buffer = b""
    async for chunk in chunks:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if len(buffer) > longest:
            raise ValueError("an endless line")
    if buffer.startswith(b"data:"):
        yield buffer[5:].strip()
