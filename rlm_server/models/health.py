"""Looking after servers that are in use: vLLM and Ollama tell how they are without being paid."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import msgspec

from rlm_server.models.pool import Group
from rlm_server.models.server import Server
from rlm_server.models.short_http import get

IN_USE = 30.0
"""Seconds after the last call for which a group is looked after."""

PATIENCE = 5.0
"""Seconds that an answer may take; a slow one is no sign of anything."""

MOST = 1e6
"""Calls that a server can have; what tells of more is no number to go by."""

LOAD = re.compile(rb"^vllm:num_requests_(?:running|waiting)(?:{[^}]*})? ([\d.e+]+)", re.MULTILINE)


class Watch:
    """Looks at the servers of all groups from time to time, for as long as they are in use."""

    def __init__(
        self, groups: Callable[[], Iterable[Group]], *, every: float, clock: Callable[[], float]
    ) -> None:
        """``every`` is in seconds; 0: never."""
        self._groups = groups
        self._every = every
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Begin, if there is a server that can be looked at. Call it whenever one is used."""
        if self._every and self._task is None and any(self._due()):
            self._task = asyncio.create_task(self._run(), name="health of model servers")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while due := list(self._due()):
                # First of all: what was told before they were last left alone may be long past.
                await asyncio.gather(*(self._check(group, server) for group, server in due))
                await asyncio.sleep(self._every)
        finally:
            self._task = None

    def _due(self) -> Iterable[tuple[Group, Server]]:
        now = self._clock()
        for group in list(self._groups()):
            if group.busy or now - group.used_at < IN_USE:
                yield from ((group, server) for server in group.servers if checkable(server))

    async def _check(self, group: Group, server: Server) -> None:
        await check(server, self._clock)
        group.dispatch()  # one that is back may be what others wait for


def checkable(server: Server) -> bool:
    """Whether a server of this kind tells its health, over plain HTTP."""
    deployment = server.deployment
    url = deployment.settings.base_url
    known = deployment.provider in ("hosted_vllm", "ollama_chat")
    return known and url is not None and url.startswith("http://")


async def check(server: Server, clock: Callable[[], float]) -> None:
    """Ask a server how it is, and let the pool know. Never raises."""
    look = _vllm if server.deployment.provider == "hosted_vllm" else _ollama
    try:
        async with asyncio.timeout(PATIENCE):
            well = await look(server)
    except TimeoutError:
        server.detail = "slow to tell its health"
        return
    except OSError:
        server.detail = "nothing answers"
        well = False
    except (EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return  # something that has no such page; calls will tell
    if well is False:
        server.leave_out(clock())
    elif well:
        server.may_return(clock())


async def _vllm(server: Server) -> bool | None:
    root = _root(server)
    status, _ = await get(f"{root}/health")
    if status != 200:
        server.detail = f"/health answers {status}"
        return False if status >= 500 else None
    before = server.in_flight
    status, metrics = await get(f"{root}/metrics")
    detail = ""  # only now: what was told before holds until it is known anew
    if status == 200 and (found := LOAD.findall(metrics)):
        # Calls of ours may have come and gone meanwhile.
        calls = int(min(MOST, sum(map(float, found))))
        server.others = max(0, calls - max(before, server.in_flight))
        detail = f"{server.others} calls of others" if server.others else ""
    server.detail = detail
    return True


class _Running(msgspec.Struct):
    name: str = ""


class _Ps(msgspec.Struct):
    models: list[_Running] = []


async def _ollama(server: Server) -> bool | None:
    status, body = await get(f"{_root(server)}/api/ps")
    if status != 200:
        server.detail = f"/api/ps answers {status}"
        return False if status >= 500 else None
    model = server.deployment.model.partition("/")[2]
    running = msgspec.json.decode(body, type=_Ps).models
    loaded = any(each.name.removesuffix(":latest") == model for each in running)
    server.detail = "model loaded" if loaded else "model not loaded"
    return True


def _root(server: Server) -> str:
    parts = urlsplit(server.deployment.settings.base_url or "")
    return f"{parts.scheme}://{parts.netloc}"
