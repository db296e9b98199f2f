"""The pool: how well it spreads calls, what it costs, beside litellm's Router and bare clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from table import print_table

from rlm_server.config import Config, ModelConfig, PoolConfig
from rlm_server.models import Models
from rlm_server.models.litellm_transport import load

MESSAGES: list[Any] = [{"role": "user", "content": "hi " * 130}]
SERVERS = (0.05, 0.2, 0.8)
SLOTS = 8
CALLS = 600
CAP = 64
STRATEGIES = ("simple-shuffle", "least-busy", "latency-based-routing", "usage-based-routing-v2")

Call = Callable[[], Awaitable[object]]


@contextlib.contextmanager
def serving(*servers: str) -> Iterator[list[int]]:
    """Model servers in a process of their own; their ports."""
    script = Path(__file__).with_name("slow_provider.py")
    process = subprocess.Popen([sys.executable, script, *servers], stdout=subprocess.PIPE)
    assert process.stdout
    try:
        yield [int(port) for port in process.stdout.readline().split()]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def models_over(ports: list[int], *, slots: int, transport: str = "http") -> Models:
    settings = ModelConfig(
        model="hosted_vllm/bench",
        slots=slots,
        transport=transport,  # type: ignore[arg-type]
        deployments=[{"base-url": f"http://127.0.0.1:{port}/v1"} for port in ports],
    )
    pool = PoolConfig(health_seconds=0)
    return Models(Config(discover=False, models={"m": settings}, pool=pool), {})


# ------------------------------------------------------------------------------ spreading the calls


def ideal() -> float:
    """Seconds in which the slots of all servers could answer all calls, none of them idle."""
    times = sorted(
        seconds * turn for seconds in SERVERS for _ in range(SLOTS) for turn in range(1, CALLS)
    )
    return times[CALLS - 1]


async def all_at_once(call: Call, count: int) -> tuple[float, Counter[str]]:
    """Seconds until all calls have ended, and how those ended that failed."""
    failed: Counter[str] = Counter()

    async def one() -> None:
        try:
            await call()
        except Exception as error:  # the Router's errors have no common base
            failed[type(error).__name__] += 1

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return time.perf_counter() - started, failed


def router_over(litellm: Any, ports: list[int], strategy: str) -> Call:
    entries = [
        {
            "model_name": "m",
            "litellm_params": {
                "model": "hosted_vllm/bench",
                "api_base": f"http://127.0.0.1:{port}/v1",
                "api_key": "none",
            },
            "model_info": {"id": str(port)},
        }
        for port in ports
    ]
    router = litellm.Router(
        model_list=entries, routing_strategy=strategy, num_retries=3, allowed_fails=0,
        cooldown_time=30,
    )  # fmt: skip
    return lambda: router.acompletion(model="m", messages=MESSAGES)


async def spread(litellm: Any) -> list[str]:
    """600 calls over servers of three speeds and one that is dead."""
    best, rows, missed = ideal(), [], []
    with serving(*(f"{seconds}:{SLOTS}" for seconds in SERVERS)) as alive:
        ports = [*alive, closed_port()]

        async def row(name: str, call: Call) -> float:
            seconds, failed = await all_at_once(call, CALLS)
            served = [counted(port) for port in alive]
            rows.append(
                [name, f"{seconds:.2f}", f"{seconds / best:.2f}", str(sum(failed.values())),
                 " ".join(map(str, served))]
            )  # fmt: skip
            return seconds

        rows.append(["ideal", f"{best:.2f}", "1.00", "0", ""])
        for transport in ("http", "litellm"):
            models = models_over(ports, slots=SLOTS, transport=transport)
            await models.warm()
            seconds = await row(f"rlm, {transport}", lambda m=models: m.complete("m", MESSAGES))
            await models.close()
            if transport == "http" and seconds > 1.3 * best:
                missed.append(f"makespan is {seconds / best:.2f} times the ideal, not 1.3")
        for strategy in STRATEGIES:
            await row(f"Router, {strategy}", router_over(litellm, ports, strategy))
    heads = ["", "s", "x ideal", "errors", "calls by server"]
    print_table(f"{CALLS} calls, servers of 50, 200 and 800 ms x 8 slots, one dead", heads, rows)
    return missed


def counted(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count") as reply:
        return int(reply.read())


# ------------------------------------------------------------------------------- what a call costs


class Stalls:
    """How long the event loop was held up, in ms: a timer that comes late says so."""

    STEP = 0.001

    async def __aenter__(self) -> Stalls:
        self.late: list[float] = []
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(self.STEP)
            self.late.append((time.perf_counter() - started - self.STEP) * 1000)

    @property
    def p99(self) -> float:
        return sorted(self.late)[int(len(self.late) * 0.99)]


def capped(call: Call, cap: int) -> Call:
    gate = asyncio.Semaphore(cap)

    async def one() -> object:
        async with gate:
            return await call()

    return one


@contextlib.asynccontextmanager
async def clients(litellm: Any, port: int, cap: int) -> Any:
    """Each client with the same cap on calls in flight."""
    import aiohttp
    import openai

    url = f"http://127.0.0.1:{port}/v1"
    body = {"model": "bench", "messages": MESSAGES}
    lean = models_over([port], slots=cap)
    heavy = models_over([port], slots=cap, transport="litellm")
    await heavy.warm()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def raw() -> object:
        async with session.post(f"{url}/chat/completions", json=body) as reply:
            return await reply.json()

    def bare() -> Awaitable[object]:
        return litellm.acompletion(
            model="hosted_vllm/bench", api_base=url, api_key="none", messages=MESSAGES,
            max_retries=0, timeout=60,
        )  # fmt: skip

    yield {
        "aiohttp, raw": capped(raw, cap),
        "rlm, http": lambda: lean.complete("m", MESSAGES),
        "rlm, litellm": lambda: heavy.complete("m", MESSAGES),
        "litellm, bare": capped(bare, cap),
        "openai client": capped(
            lambda: client.chat.completions.create(model="bench", messages=MESSAGES), cap
        ),
    }
    await session.close()
    await client.close()
    await lean.close()
    await heavy.close()


async def costs(litellm: Any) -> list[str]:
    """1,000 sub-calls of 100 ms with 64 in flight; then as fast as it goes, for the CPU."""
    rows, missed = [], []
    cpu: dict[str, float] = {}
    with serving("0:1") as (port,):
        async with clients(litellm, port, CAP) as calls:
            for name, call in calls.items():
                await all_at_once(call, CAP)
                before = time.process_time()
                await all_at_once(call, 1000)
                cpu[name] = time.process_time() - before
    with serving(f"0.1:{CAP}") as (port,):
        async with clients(litellm, port, CAP) as calls:
            floor = None
            for name, call in calls.items():
                await all_at_once(call, CAP)
                async with Stalls() as stalls:
                    seconds, failed = await all_at_once(call, 1000)
                assert not failed, (name, failed)
                floor = floor or seconds
                rows.append([name, f"{seconds:.2f}", f"{seconds / floor:.2f}", f"{stalls.p99:.1f}",
                             f"{cpu[name]:.2f}"])  # fmt: skip
                if name == "rlm, http" and seconds > 1.5 * floor:
                    missed.append(f"1,000 sub-calls take {seconds / floor:.2f} times raw aiohttp's")
                if name == "rlm, http" and stalls.p99 > 20:
                    missed.append(f"the loop's p99 stall is {stalls.p99:.0f} ms, not 20")
    heads = ["", "s", "x raw", "p99 stall, ms", "CPU ms a call"]
    print_table("1,000 calls of 100 ms, 64 in flight; CPU without latency", heads, rows)
    if cpu["rlm, litellm"] < 5 * cpu["rlm, http"]:
        missed.append("the lean transport does not save 4/5 of litellm's CPU")
    return missed


async def main() -> int:
    litellm = await asyncio.to_thread(load)
    missed = [*await spread(litellm), *await costs(litellm)]
    for miss in missed:
        print(f"MISSED: {miss}")
    return 1 if missed else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.exit(asyncio.run(main()))
