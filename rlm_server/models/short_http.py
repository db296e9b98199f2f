"""One short question to a server over plain HTTP, without a library that takes long to import."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

LONGEST_REPLY = 4 << 20
"""Bytes; whatever says more is no model server."""

STATUS = re.compile(rb"HTTP/1\.\d (\d{3})\b")
LENGTH = re.compile(rb"^content-length: *(\d{1,9})\r", re.IGNORECASE | re.MULTILINE)


async def get(url: str) -> tuple[int, bytes]:
    """Status and body of a small answer, by HTTP/1.0, which never comes in chunks.

    Raises OSError, EOFError, ValueError or asyncio.LimitOverrunError where there is none.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = STATUS.match(head)
        if status is None:
            raise ValueError("not answered by HTTP")
        return int(status[1]), await _body(reader, LENGTH.search(head))
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, length: re.Match[bytes] | None) -> bytes:
    """The body: as long as was told, else to the end of the connection."""
    left = min(int(length[1]) if length else LONGEST_REPLY, LONGEST_REPLY)
    body = b""
    while left > len(body) and (data := await reader.read(left - len(body))):
        body += data
    return body
