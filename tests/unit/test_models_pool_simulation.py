"""Thousands of calls through the pool in virtual time, with deaths, rate limits and cancels."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_server.config import ModelConfig, PoolConfig
from rlm_server.errors import ModelError, RateLimitedError, TransientError, UnreachableError
from rlm_server.models.asking import Ask, Asker
from rlm_server.models.calls import Reply
from rlm_server.models.deployments import Deployment
from rlm_server.models.pool import Group, Priority
from rlm_server.models.server import Server
from virtual_time import run


@dataclass
class Backend:
    """A simulated server: how fast it is, and when it is dead or asks for fewer calls."""

    slots: int | None
    """What is configured; None: nothing."""
    seconds: float
    dead: list[tuple[float, float]] = field(default_factory=list)
    """Times between which nothing answers."""
    per_second: float = 1e9
    """Calls that it takes a second; more are answered with 429."""
    retry_after: float | None = None
    flaky: float = 0.0
    """Share of its calls that fail with 500."""
    beside: int = 1000
    """Calls that it answers beside each other; others wait in it."""
    takes: int = 1000
    """Calls that it takes; others are answered with 429."""
    in_flight: int = 0
    most: int = 0
    answered: int = 0
    window: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.lanes = asyncio.Semaphore(self.beside)


class World:
    """A group of simulated servers, and what is seen of the calls from outside."""

    def __init__(self, backends: list[Backend], *, seed: int = 0, **pool: object) -> None:
        self.random = random.Random(seed)
        self.clock = asyncio.get_running_loop().time
        self.backends = {f"s{number}": each for number, each in enumerate(backends)}
        config = PoolConfig(**pool)
        self.group = Group("m", config, clock=self.clock, random=self.random.random)
        for name, each in self.backends.items():
            address = "http://127.0.0.1:9/v1"
            model = ModelConfig(model="hosted_vllm/x", base_url=address, slots=each.slots)
            self.group.add(Deployment(name=name, settings=model, source="config"))
        self.asker = Asker(
            self.send, hedge=config.hedge, sleep=asyncio.sleep, random=self.random.random
        )
        self.waiting: dict[int, tuple[Priority, float]] = {}
        self.overtaken = 0
        self.waits: dict[Priority, list[float]] = {priority: [] for priority in Priority}

    async def send(self, deployment: Deployment, ask: Ask, _: object) -> Reply:
        backend, now = self.backends[deployment.name], self.clock()
        mine = self.waiting.pop(id(ask), None)
        if mine:
            self.waits[mine[0]].append(now - mine[1])
            better = [w for w in self.waiting.values() if w[0] < mine[0] and w[1] < now]
            self.overtaken += bool(better)
        backend.in_flight += 1
        backend.most = max(backend.most, backend.in_flight)
        try:
            return await self.answer(backend, now)
        finally:
            backend.in_flight -= 1

    async def answer(self, backend: Backend, now: float) -> Reply:
        if any(begin <= now < end for begin, end in backend.dead):
            raise UnreachableError("dead")
        second, count = backend.window
        backend.window = (int(now), count + 1 if second == int(now) else 1)
        if backend.window[1] > backend.per_second:
            raise RateLimitedError("slow down", retry_after=backend.retry_after)
        if backend.in_flight > backend.takes:
            raise RateLimitedError("slow down", retry_after=backend.retry_after)
        async with backend.lanes:
            await asyncio.sleep(backend.seconds * (0.5 + self.random.random()))
        if self.random.random() < backend.flaky:
            raise TransientError("oh")
        backend.answered += 1
        return Reply(text="Yes.")

    async def call(self, priority: Priority = Priority.SUBCALL) -> str:
        ask = Ask([{"role": "user", "content": "Why?"}], None, None, priority)
        self.waiting[id(ask)] = (priority, self.clock())
        try:
            await self.asker.ask(self.group, ask)
        except ModelError as error:
            return type(error).__name__
        finally:
            self.waiting.pop(id(ask), None)
        return "ok"

    def check_slots(self) -> None:
        for server in self.group.servers:
            backend = self.backends[server.deployment.name]
            assert server.in_flight == backend.in_flight == 0
            assert backend.most <= (backend.slots or 128)
            assert server.slots.limit >= 1
        assert self.group.waiting == 0


async def play(world: World, calls: int, *, per_second: float, cancelled: float) -> list[str]:
    """Calls that come in at random times, some of which are cancelled at random times."""
    chance, loop, tasks = world.random, asyncio.get_running_loop(), []
    for _ in range(calls):
        priority = chance.choices(list(Priority), weights=[1, 8, 1])[0]
        task = asyncio.create_task(world.call(priority))
        if chance.random() < cancelled:
            loop.call_later(chance.random() * 3, task.cancel)
        tasks.append(task)
        if chance.random() < 0.9:  # the others come at the same moment as their next
            await asyncio.sleep(chance.expovariate(per_second * 0.9))
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return ["cancelled" if isinstance(e, asyncio.CancelledError) else str(e) for e in ends]


def test_ten_thousand_calls_with_deaths_rate_limits_and_cancels() -> None:
    async def simulate() -> None:
        backends = [
            Backend(slots=8, seconds=0.05, dead=[(20, 30), (60, 61)]),
            Backend(slots=8, seconds=0.2, flaky=0.05),
            Backend(slots=4, seconds=0.8, per_second=6, retry_after=2),
            Backend(slots=16, seconds=0.3, dead=[(0, 50)]),
        ]
        world = World(backends, seed=4)
        ends = await play(world, 10_000, per_second=110, cancelled=0.1)
        world.check_slots()
        assert len(ends) == 10_000
        assert ends.count("ok") + ends.count("cancelled") >= 9_990, set(ends)
        assert world.overtaken == 0
        # Each gets work, the dead ones once they are back.
        assert all(backend.answered > 100 for backend in backends), backends

    run(simulate())


backends = st.builds(
    Backend,
    slots=st.integers(1, 8),
    seconds=st.floats(0.01, 3),
    dead=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 40)), max_size=2),
    per_second=st.sampled_from([1, 5, 1e9]),
    retry_after=st.sampled_from([None, 0.0, 3.0, 90.0]),
    flaky=st.sampled_from([0.0, 0.1, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    servers=st.lists(backends, min_size=1, max_size=10),
    seed=st.integers(0, 1000),
    per_second=st.sampled_from([2, 20, 200]),
    cancelled=st.sampled_from([0.0, 0.2, 0.9]),
    hedge=st.booleans(),
)
def test_slots_never_leak_and_priorities_hold(
    servers: list[Backend], seed: int, per_second: float, cancelled: float, hedge: bool
) -> None:
    async def simulate() -> None:
        world = World(servers, seed=seed, hedge=hedge)
        ends = await play(world, 150, per_second=per_second, cancelled=cancelled)
        world.check_slots()
        assert len(ends) == 150
        assert world.overtaken == 0
        perfect = all(s.flaky == 0 and not s.dead and s.per_second > 5 for s in servers)
        if perfect:
            assert set(ends) <= {"ok", "cancelled"}

    run(simulate())


@pytest.mark.parametrize("hedge", [False, True])
def test_no_server_starves_though_it_was_slow_once(hedge: bool) -> None:
    async def simulate() -> None:
        slow = Backend(slots=4, seconds=20.0)
        world = World([Backend(slots=4, seconds=0.5), slow], hedge=hedge)
        await asyncio.gather(*(world.call() for _ in range(8)))
        slow.seconds = 0.1
        before = slow.answered
        await play(world, 1500, per_second=4, cancelled=0.0)
        assert slow.answered > before + 100
        world.check_slots()

    run(simulate())


async def sub_calls(backend: Backend, count: int) -> tuple[float, int]:
    """Make so many at once; how long that took, and how many the server gets at once then."""
    world = World([backend])
    started = world.clock()
    ends = await asyncio.gather(*(world.call() for _ in range(count)))
    assert set(ends) == {"ok"}
    world.check_slots()
    return world.clock() - started, world.group.servers[0].slots.whole


def test_a_server_that_answers_many_beside_each_other_gets_more_at_once() -> None:
    async def simulate() -> None:
        backend = Backend(slots=None, seconds=0.1)
        seconds, slots = await sub_calls(backend, 1000)
        assert (backend.most, slots) == (128, 128)
        configured = Backend(slots=16, seconds=0.1)
        assert seconds * 4 < (await sub_calls(configured, 1000))[0]

    run(simulate())


@pytest.mark.parametrize("beside", [1, 8, 32])
def test_a_server_that_only_queues_more_calls_does_not_get_them(beside: int) -> None:
    async def simulate() -> None:
        backend = Backend(slots=None, seconds=0.1, beside=beside)
        _, slots = await sub_calls(backend, 400)
        assert backend.most == 64  # it was tried
        assert slots == 32

    run(simulate())


def test_calls_at_once_that_are_found_out_stay_where_a_rate_limit_lets_them() -> None:
    async def simulate() -> None:
        backend = Backend(slots=None, seconds=0.1, takes=50, retry_after=0.2)
        _, slots = await sub_calls(backend, 2000)
        assert backend.most == 51  # the first that is refused is the last for now
        assert slots <= 51

    run(simulate())


def test_few_calls_at_once_are_no_reason_for_more() -> None:
    async def simulate() -> None:
        world = World([Backend(slots=None, seconds=0.1)])
        for _ in range(50):
            await asyncio.gather(*(world.call() for _ in range(20)))
        assert world.group.servers[0].slots.whole == 32

    run(simulate())


@pytest.mark.parametrize(
    ("model", "address", "slots"),
    [
        ("ollama_chat/x", "http://127.0.0.1:11434", 8),
        ("ollama_chat/x", "http://192.168.1.7:11434", 8),
        ("openai/x", "http://127.0.0.1:8080/v1", 8),
        ("openai/x", "http://gpu.lan:8000/v1", 32),
        ("hosted_vllm/x", "http://127.0.0.1:8000/v1", 32),
        ("anthropic/x", None, 32),
    ],
)
def test_servers_of_one_person_begin_modestly(model: str, address: str, slots: int) -> None:
    settings = ModelConfig(model=model, base_url=address)
    server = Server(Deployment(name="m", settings=settings, source="config"))
    assert (server.slots.whole, server.slots.most) == (slots, 4 * slots)
