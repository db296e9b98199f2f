"""Watches of one connection, begun and stopped while another one begins."""

import asyncio

import pytest

from rlm_server.doors.watches import Watches
from rlm_server.protocol import WatchParams


class Durable:
    """Prepares watches when the test lets it, and knows which of them run."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.running: list[WatchParams] = []

    async def watch(self, params, on_change):
        await self.ready.wait()
        return Watch(self.running, params)


class Watch:
    places = ("/a",)

    def __init__(self, running: list[WatchParams], params: WatchParams) -> None:
        self._running, self._params = running, params

    async def run(self) -> None:
        self._running.append(self._params)
        try:
            await asyncio.Event().wait()
        finally:
            self._running.remove(self._params)


START, OTHER = WatchParams(run_id="r", budget=1.0), WatchParams(run_id="r", budget=2.0)
STOP = WatchParams(run_id="r", stop=True)


@pytest.mark.parametrize(
    ("asked", "running"),
    [
        ([START], [START]),
        ([START, STOP], []),
        ([START, OTHER], [OTHER]),
        ([START, STOP, OTHER], [OTHER]),
        ([START, OTHER, STOP], []),
    ],
)
async def test_what_was_asked_last_holds(asked: list[WatchParams], running: list) -> None:
    durable = Durable()
    watches = Watches(durable, print, print)  # type: ignore[arg-type]
    tasks = []
    for params in asked:
        tasks.append(asyncio.create_task(watches.watch(params)))
        await asyncio.sleep(0)
    durable.ready.set()
    results = await asyncio.gather(*tasks)
    await asyncio.sleep(0)
    assert durable.running == running
    assert results[-1].watching is results[0].watching is bool(running)
    await watches.watch(STOP)
    await asyncio.sleep(0)
    assert durable.running == []
    await watches.watch(START)
    await asyncio.sleep(0)
    await watches.close()
    assert durable.running == []
