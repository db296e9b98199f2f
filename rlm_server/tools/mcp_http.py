"""An MCP server at an address: each request is a POST, answered with JSON or as an event stream."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rlm_server import sse
from rlm_server.errors import ToolError
from rlm_server.text import one_line
from rlm_server.tools.mcp_messages import (
    CANCELLED,
    SHOWN,
    VERSION,
    Answer,
    answer_in,
    message,
    result_of,
)

LONGEST = 16 << 20
"""Bytes of one answer."""

SESSION = "Mcp-Session-Id"


class HttpConnection:
    """Speaks to one server ("streamable HTTP")."""

    alive = True
    """A server that is gone is noticed by the next request."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str], session: Any) -> None:
        self._name = name
        self._url = url
        self._host = urlsplit(url).netloc.rpartition("@")[2]
        """The rest of the address may hold a key."""
        self._numbers = itertools.count(1)
        self._session = session
        self._telling: set[asyncio.Task[None]] = set()
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
            **headers,
        }

    @classmethod
    async def open(cls, name: str, url: str, headers: Mapping[str, str]) -> HttpConnection:
        """Get ready; nothing is sent yet."""
        aiohttp: Any = await asyncio.to_thread(__import__, "aiohttp")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30.0)
        jar = aiohttp.DummyCookieJar()
        return cls(name, url, headers, aiohttp.ClientSession(timeout=timeout, cookie_jar=jar))

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the result. Raises ToolError. When cancelled, it is told so."""
        number = next(self._numbers)
        try:
            async with self._post(message(method, params, number)) as response:
                answer = await self._answer(response, number)
                self._headers[SESSION] = response.headers.get(SESSION, self._headers.get(SESSION))
                if self._headers[SESSION] is None:
                    del self._headers[SESSION]
            return result_of(answer, f"[mcp.{self._name}]")
        except asyncio.CancelledError:
            self.notify(CANCELLED, {"requestId": number, "reason": "not wanted any more"})
            raise

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell something that is not answered."""
        task = asyncio.create_task(self._tell(message(method, params)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Say good-bye, where the server keeps a session, and close the connections."""
        await asyncio.gather(*self._telling, return_exceptions=True)
        if SESSION in self._headers:
            with contextlib.suppress(Exception):
                async with (
                    asyncio.timeout(1.0),
                    self._session.delete(self._url, headers=self._headers),
                ):
                    pass
        await self._session.close()

    async def _tell(self, body: bytes) -> None:
        with contextlib.suppress(ToolError, TimeoutError):
            async with asyncio.timeout(10.0), self._post(body):
                pass

    @asynccontextmanager
    async def _post(self, body: bytes) -> AsyncIterator[Any]:
        import aiohttp

        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                if response.status not in (200, 202):
                    said = (await response.content.read(1 << 16)).decode("utf-8", "replace")
                    raise self._failed(f"answers {response.status}: {said}")
                yield response
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            failure = self._failed(str(error) or type(error).__name__)
        else:
            return
        raise failure

    async def _answer(self, response: Any, number: int) -> Answer:
        """The answer to a request; what else comes in its stream is not for us."""
        if response.content_type != "text/event-stream":
            data = await response.content.read(LONGEST)
            while more := await response.content.read(LONGEST):
                data += more
                if len(data) > LONGEST:
                    raise self._failed("sent too much")
            with contextlib.suppress(msgspec.MsgspecError):
                return answer_in(data)
            raise self._failed("sent what is no message of MCP")
        async for data in sse.events(response.content.iter_any(), longest=LONGEST):
            with contextlib.suppress(msgspec.MsgspecError):
                answer = answer_in(data)
                if answer.id == number and answer.method is None:
                    return answer
        raise self._failed("ended its answer too early")

    def _failed(self, told: str) -> ToolError:
        said = one_line(told, SHOWN).rstrip(".")
        return ToolError(
            f"The server of [mcp.{self._name}] at {self._host} {said}.",
            cure="Look at that server, or correct url.",
        )
