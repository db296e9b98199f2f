"""Who gets which slot: tiers, queues, faults and prefixes, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps

import pytest

from rlm_server.config import ModelConfig, PoolConfig
from rlm_server.errors import ModelError, RateLimitedError, TransientError, UnreachableError
from rlm_server.models.affinity import prefix_of
from rlm_server.models.asking import Ask, Asker
from rlm_server.models.deployments import Deployment
from rlm_server.models.hedging import hedged
from rlm_server.models.pool import Group, Lease, Priority
from rlm_server.models.server import Server
from virtual_time import run


def virtually(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run a test in virtual time."""

    @wraps(test)
    def synchronous(**arguments: object) -> None:
        run(test(**arguments))

    return synchronous


def deployment(name: str, **settings: object) -> Deployment:
    settings = {"model": "hosted_vllm/x", "base_url": "http://127.0.0.1:9/v1"} | settings
    return Deployment(name=name, settings=ModelConfig(**settings), source="config")


def group(*deployments: Deployment, **config: object) -> Group:
    made = Group(
        "m", PoolConfig(**config), clock=asyncio.get_running_loop().time, random=lambda: 0.5
    )
    for each in deployments:
        made.add(each)
    return made


async def waiting(count: int = 5) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def take(pool: Group, **options: object) -> Lease:
    return await asyncio.wait_for(pool.acquire(Priority.SUBCALL, **options), 1)


def named(leases: list[Lease]) -> str:
    return "".join(lease.server.deployment.name for lease in leases)


def asked(text: str) -> Ask:
    return Ask([{"role": "user", "content": text}], None, None, Priority.SUBCALL)


async def fail(pool: Group, error: ModelError, **options: object) -> None:
    with pytest.raises(type(error)):
        async with pool.held(await take(pool, **options)):
            raise error


async def succeed(pool: Group, seconds: float = 0.1, **options: object) -> Server:
    async with pool.held(await take(pool, **options)) as server:
        await asyncio.sleep(seconds)
    return server


# ------------------------------------------------------------------------------------- the queue


@virtually
async def test_those_who_watch_come_before_sub_calls_and_those_before_guesses() -> None:
    pool, order = group(deployment("a", slots=1)), []

    async def call(priority: Priority) -> None:
        async with pool.held(await pool.acquire(priority)):
            order.append(priority)
            await asyncio.sleep(1)

    first = asyncio.create_task(call(Priority.SUBCALL))
    await waiting()
    tasks = [asyncio.create_task(call(p)) for p in (*reversed(Priority), *reversed(Priority))]
    await asyncio.gather(first, *tasks)
    assert order == [1, 0, 0, 1, 1, 2, 2]


@virtually
async def test_of_equals_the_first_to_come_is_the_first_served() -> None:
    pool, order = group(deployment("a", slots=2)), []

    async def call(number: int) -> None:
        async with pool.held(await pool.acquire(Priority.SUBCALL)):
            order.append(number)
            await asyncio.sleep(1)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


@virtually
async def test_a_call_that_is_cancelled_as_it_gets_its_slot_gives_it_back() -> None:
    pool = group(deployment("a", slots=1))
    held = await take(pool)
    waiter = asyncio.create_task(pool.acquire(Priority.SUBCALL))
    await waiting()
    pool.give_back(held)  # grants the slot to the waiter, which has not gone on yet
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert pool.servers[0].in_flight == 0
    pool.give_back(await take(pool))


@virtually
async def test_calls_that_gave_up_waiting_leave_nothing_behind() -> None:
    pool = group(deployment("a", slots=1))
    held = await take(pool)
    tasks = [asyncio.create_task(pool.acquire(Priority.SUBCALL)) for _ in range(100)]
    await waiting()
    assert pool.waiting == 100
    for task in tasks[:99]:
        task.cancel()
    await asyncio.gather(*tasks[:99], return_exceptions=True)
    assert pool.waiting == 1
    pool.give_back(held)
    pool.give_back(await tasks[99])
    assert (pool.waiting, pool.servers[0].in_flight, pool.busy) == (0, 0, False)


@virtually
async def test_calls_that_give_up_together_do_not_upset_the_count() -> None:
    pool = group(deployment("a", slots=1), queue=80)
    held = await take(pool)
    stay = [asyncio.create_task(pool.acquire(Priority.SUBCALL)) for _ in range(10)]
    leave = [asyncio.create_task(pool.acquire(Priority.SUBCALL)) for _ in range(64)]
    await waiting()
    for task in leave:
        task.cancel()
    assert pool.waiting == 10
    await asyncio.gather(*leave, return_exceptions=True)
    assert pool.waiting == 10
    pool.give_back(held)
    for task in stay:
        pool.give_back(await task)
    assert (pool.waiting, pool.busy) == (0, False)


@virtually
async def test_the_places_of_those_who_gave_up_are_free_again() -> None:
    pool = group(deployment("a", slots=1), queue=3)
    held = await take(pool)
    gone = [asyncio.create_task(pool.acquire(Priority.SUBCALL)) for _ in range(3)]
    await waiting()
    for task in gone:
        task.cancel()
    last = asyncio.create_task(pool.acquire(Priority.SUBCALL))
    await asyncio.gather(*gone, return_exceptions=True)
    pool.give_back(held)
    pool.give_back(await last)


@virtually
async def test_a_full_queue_refuses_whoever_is_the_least_urgent() -> None:
    pool = group(deployment("a", slots=1), queue=2)
    held = await take(pool)
    guess = asyncio.create_task(pool.acquire(Priority.SPECULATIVE))
    sub = asyncio.create_task(pool.acquire(Priority.SUBCALL))
    await waiting()
    with pytest.raises(ModelError, match="2 calls wait for m already") as caught:
        await pool.acquire(Priority.SPECULATIVE)
    assert "[pool]" in caught.value.cure
    watched = asyncio.create_task(pool.acquire(Priority.WATCHED))
    with pytest.raises(ModelError, match="wait for m already"):
        await guess
    pool.give_back(held)
    pool.give_back(await watched)
    pool.give_back(await sub)


# ------------------------------------------------------------------------------------- the tiers


LOCAL = deployment("l", slots=2)
LAN = deployment("n", slots=2, base_url="http://192.168.1.7:8000/v1")
CLOUD = deployment("c", slots=8, model="openrouter/x", base_url=None)


@virtually
async def test_a_call_that_failed_goes_to_another_tier_though_the_near_one_has_room() -> None:
    near, far = deployment("a"), deployment("c", base_url="https://example.org/v1")
    tried, pauses = [], []

    async def send(to: Deployment, ask: Ask, _: object) -> str:
        await asyncio.sleep(0.01)
        if ask.messages[0]["content"] == "odd":
            tried.append(to.name)
            if to is near:
                raise TransientError("500")
        return "So."

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    pool = group(near, far)
    asker = Asker(send, hedge=False, sleep=sleep, random=lambda: 0.5)

    async def others() -> None:  # whose calls the near server answers well
        while True:
            await asker.ask(pool, asked("even"))

    busy = asyncio.create_task(others())
    _, by = await asyncio.wait_for(asker.ask(pool, asked("odd")), 100)
    busy.cancel()
    assert (by, tried, pauses) == (far, ["a", "c"], [])


@virtually
async def test_a_server_is_not_asked_without_end_since_another_comes_and_goes() -> None:
    loop = asyncio.get_running_loop()
    pool, tries = group(deployment("a", retries=2), deployment("b", slots=1)), []
    comes_and_goes = pool.servers[1]
    held = pool.spare(pool.servers[0])  # so that a call would have to wait for it

    def go() -> None:
        comes_and_goes.leave_out(loop.time())
        pool.dispatch()

    async def send(to: Deployment, ask: Ask, _: object) -> str:
        tries.append(to.name)
        assert len(tries) < 100
        comes_and_goes.succeeded(None, loop.time())
        loop.call_later(0.01, go)
        raise TransientError("500")

    asker = Asker(send, hedge=False, sleep=asyncio.sleep, random=lambda: 0.5)
    with pytest.raises(TransientError):
        await asker.ask(pool, asked("odd"))
    assert set(tries) == {"a"}
    assert len(tries) <= 2 * 3  # servers times rounds
    assert held is not None
    pool.give_back(held)
    pool.close()


@pytest.mark.parametrize(
    ("url", "tier"),
    [
        ("http://127.0.0.1:8000/v1", "local"),
        ("http://localhost/v1", "local"),
        ("http://[::1]/v1", "local"),
        ("http://192.168.1.7:8000/v1", "lan"),
        ("http://10.0.0.2/v1", "lan"),
        ("http://gpu:8000/v1", "lan"),
        ("http://gpu.local/v1", "lan"),
        ("https://models.example.org/v1", "cloud"),
        ("https://8.8.8.8/v1", "cloud"),
        (None, "cloud"),
    ],
)
def test_the_tier_is_told_by_the_address(url: str | None, tier: str) -> None:
    assert deployment("x", model="openai/x", base_url=url).tier == tier
    assert deployment("x", model="openai/x", base_url=url, tier="lan").tier == "lan"


def test_ollama_without_an_address_is_local() -> None:
    assert deployment("x", model="ollama_chat/x", base_url=None).tier == "local"


@virtually
async def test_the_nearest_tier_with_room_is_used() -> None:
    pool = group(CLOUD, LAN, LOCAL)
    assert named([await take(pool), await take(pool)]) == "ll"


@virtually
async def test_a_short_queue_waits_for_the_near_tier() -> None:
    pool = group(LOCAL, CLOUD, spill_after=5)
    held = [await take(pool), await take(pool)]
    waiter = asyncio.create_task(pool.acquire(Priority.SUBCALL))
    await asyncio.sleep(4)
    assert not waiter.done()
    pool.give_back(held[0])
    assert named([await waiter]) == "l"


@virtually
async def test_who_has_waited_too_long_goes_farther() -> None:
    pool = group(LOCAL, CLOUD, spill_after=5)
    held = [await take(pool), await take(pool)]
    started = asyncio.get_running_loop().time()
    lease = await pool.acquire(Priority.SUBCALL)
    assert named([lease]) == "c"
    assert asyncio.get_running_loop().time() - started == pytest.approx(5, abs=0.1)
    assert len(held) == 2


@virtually
async def test_a_long_queue_spills_at_once() -> None:
    """Two slots of 1 s each clear 2 calls a second: beyond 10 that wait, the cloud helps."""
    pool = group(LOCAL, CLOUD, spill_after=5)
    await succeed(pool, 1.0)
    tasks = [asyncio.create_task(pool.acquire(Priority.SUBCALL)) for _ in range(20)]
    await waiting()
    taken = named([task.result() for task in tasks if task.done()])
    assert (taken.count("l"), taken.count("c")) == (2, 8)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("spill", "expected"), [("any", "c"), ("free", "n"), ("never", "")])
def test_how_far_a_call_may_go_is_a_matter_of_policy(spill: str, expected: str) -> None:
    async def play() -> None:
        tiers = [LOCAL, CLOUD] if spill == "any" else [LOCAL, CLOUD, LAN]
        pool = group(*tiers, spill=spill, spill_after=1)
        for _ in range(2):
            await pool.acquire(Priority.SUBCALL)
        with_time = asyncio.wait_for(pool.acquire(Priority.SUBCALL), 100)
        if expected:
            assert named([await with_time]) == expected
        else:
            with pytest.raises(TimeoutError):
                await with_time

    run(play())


@virtually
async def test_a_tier_that_is_down_is_passed_over_at_once() -> None:
    pool = group(LOCAL, CLOUD)
    await fail(pool, UnreachableError("gone"))
    assert named([await take(pool)]) == "c"


@virtually
async def test_a_short_pause_of_the_near_tier_is_waited_for() -> None:
    pool = group(LOCAL, CLOUD)
    await fail(pool, RateLimitedError("slow", retry_after=2))
    lease = await pool.acquire(Priority.SUBCALL)
    assert (named([lease]), asyncio.get_running_loop().time() >= 2) == ("l", True)


# ------------------------------------------------------------------------------------ the choice


@virtually
async def test_the_faster_server_gets_more() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    for server, seconds in zip(pool.servers, (0.1, 0.4), strict=True):
        server.latency.observe(seconds, 0.0)
    assert named([await take(pool) for _ in range(10)]).count("a") == 8


@virtually
async def test_more_slots_get_more() -> None:
    pool = group(deployment("a", slots=2), deployment("b", slots=8))
    leases = named([await take(pool) for _ in range(10)])
    assert (leases.count("a"), leases.count("b")) == (2, 8)


@virtually
async def test_an_unknown_server_is_tried() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    pool.servers[0].latency.observe(0.1, 0.0)
    leases = named([await take(pool) for _ in range(4)])
    assert leases.count("b") == 2


@virtually
async def test_the_work_of_other_clients_counts() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    pool.servers[0].others = 6
    assert named([await take(pool) for _ in range(6)]) == "bbbbbb"


@virtually
async def test_of_many_servers_all_get_calls() -> None:
    pool = group(*(deployment(f"{n:x}", slots=4) for n in range(12)))
    draws = iter(range(10_000))
    pool._random = lambda: (next(draws) * 0.6180339887) % 1
    leases = named([await take(pool) for _ in range(36)])
    assert len(set(leases)) == 12


# ------------------------------------------------------------------------------------ the faults


@virtually
async def test_a_server_without_an_answer_is_left_out_for_longer_each_time() -> None:
    pool = group(deployment("a"), deployment("b"))
    dead, other = pool.servers
    loop, gaps, last = asyncio.get_running_loop(), [], 0.0
    while len(gaps) < 8:
        dead.latency.observe(0.001, loop.time())  # the one that is preferred
        other.latency.observe(9.0, loop.time())
        lease = await take(pool)
        if lease.server is dead:
            gaps.append(loop.time() - last)
            last = loop.time()
            dead.failed(UnreachableError("gone"), last, last)
        pool.give_back(lease)
        await asyncio.sleep(0.05)
    assert gaps[1:] == pytest.approx([1, 2, 4, 8, 16, 32, 60], abs=0.2)


@virtually
async def test_after_the_pause_one_call_decides_whether_it_is_back() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    pool.servers[1].latency.observe(9.0, 0.0)
    await fail(pool, UnreachableError("gone"))
    assert named([await take(pool)]) == "b"
    await asyncio.sleep(1.1)
    probe, other = await take(pool), await take(pool)
    assert named([probe, other]) == "ab"
    assert pool.servers[0].health(1.2) == "trying"
    async with pool.held(probe):
        pass
    assert pool.servers[0].health(1.2) == "ok"
    assert named([await take(pool)]) == "a"


@virtually
async def test_a_cancelled_probe_lets_another_try() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    pool.servers[1].latency.observe(9.0, 0.0)
    await fail(pool, UnreachableError("gone"))
    await asyncio.sleep(1.1)
    pool.give_back(await take(pool))
    assert named([await take(pool)]) == "a"


@virtually
async def test_one_passing_fault_is_forgiven_and_three_in_a_row_are_not() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    server = pool.servers[0]
    for _ in range(2):
        server.failed(TransientError("oh"), 0.0, 0.0)
    server.succeeded(0.1, 0.0)
    for _ in range(2):
        server.failed(TransientError("oh"), 0.0, 0.0)
    assert server.open(0.0)
    server.failed(TransientError("oh"), 0.0, 0.0)
    assert not server.open(0.0)


@virtually
async def test_where_all_are_left_out_a_call_finds_out_at_once() -> None:
    pool = group(deployment("a"), deployment("b"))
    for _ in range(6):
        await fail(pool, UnreachableError("gone"))  # take() allows a second at most
    assert asyncio.get_running_loop().time() < 0.1


@virtually
async def test_a_rate_limit_halves_the_slots_once_and_success_gives_them_back() -> None:
    pool = group(deployment("a", slots=8))
    server = pool.servers[0]
    for _ in range(4):  # all of them were on their way before the limit was known
        server.failed(RateLimitedError("slow"), 0.0, 1.0)
    assert server.slots.limit == 4
    server.failed(RateLimitedError("slow"), 2.0, 2.0)
    assert server.slots.limit == 2
    for _ in range(60):
        server.succeeded(0.1, 9.0)
    assert server.slots.limit == 8


@virtually
async def test_a_pause_that_is_asked_for_is_kept_by_all() -> None:
    pool = group(deployment("a", slots=8))
    await fail(pool, RateLimitedError("slow", retry_after=30))
    lease = await pool.acquire(Priority.SUBCALL)
    assert asyncio.get_running_loop().time() >= 30
    pool.give_back(lease)


@virtually
async def test_a_long_pause_that_is_asked_for_ends_by_no_answer_to_an_older_call() -> None:
    near, far = deployment("a"), deployment("c", base_url="https://example.org/v1")
    pool = group(near, far)
    older = await take(pool)
    await fail(pool, RateLimitedError("slow", retry_after=300))
    async with pool.held(older) as server:
        pass
    server.may_return(asyncio.get_running_loop().time())  # nor because it is well
    assert server.health(0.0) == "limited"
    assert named([await take(pool)]) == "c"  # at once: no call waits for so long
    await asyncio.sleep(301)
    assert named([await take(pool)]) == "a"


@virtually
async def test_a_server_that_is_avoided_is_used_by_others() -> None:
    pool = group(deployment("a", slots=1), deployment("b", slots=1))
    held = [await take(pool), await take(pool)]
    a = next(lease for lease in held if lease.server is pool.servers[0])
    picky = asyncio.create_task(pool.acquire(Priority.SUBCALL, None, [a.server]))
    plain = asyncio.create_task(pool.acquire(Priority.SUBCALL))
    await waiting()
    pool.give_back(a)
    assert named([await plain]) == "a"
    assert not picky.done()
    pool.give_back(next(lease for lease in held if lease is not a))
    assert named([await picky]) == "b"


# ---------------------------------------------------------------------------------- the prefixes


def prompt(text: str) -> bytes | None:
    return prefix_of([{"role": "system", "content": "s" * 600}, {"role": "user", "content": text}])


def test_prompts_that_begin_alike_share_a_prefix_and_short_ones_have_none() -> None:
    assert prompt("x" * 2000 + "one") == prompt("x" * 2000 + "two")
    assert prompt("x" * 2000) != prompt("y" * 2000)
    assert prefix_of([{"role": "user", "content": "short"}]) is None
    assert prefix_of([]) is None
    grown = [{"role": "user", "content": "x" * 2000}, {"role": "assistant", "content": "more"}]
    assert prefix_of(grown) == prefix_of(grown[:1])


@virtually
async def test_prompts_that_begin_alike_go_to_the_same_server() -> None:
    pool = group(*(deployment(name, slots=8) for name in "abcd"))
    homes = set()
    for number in range(40):
        prefix = prompt(f"document {number} " * 200)
        servers = {(await succeed(pool, prefix=prefix)).deployment.name for _ in range(3)}
        assert len(servers) == 1
        homes |= servers
    assert len(homes) == 4


@virtually
async def test_a_server_that_goes_takes_only_its_own_prompts_along() -> None:
    prefixes = [prompt(f"document {number} " * 200) for number in range(40)]
    pool = group(*(deployment(name, slots=8) for name in "abcd"))
    before = [(await succeed(pool, prefix=p)).deployment.name for p in prefixes]
    pool = group(*(deployment(name, slots=8) for name in "abc"))
    after = [(await succeed(pool, prefix=p)).deployment.name for p in prefixes]
    assert all(b == a for b, a in zip(before, after, strict=True) if b != "d")


@virtually
async def test_a_popular_beginning_drowns_no_server() -> None:
    pool = group(*(deployment(name, slots=8) for name in "abcd"))
    prefix = prompt("the same for all " * 200)
    leases = named([await take(pool, prefix=prefix) for _ in range(16)])
    assert max(leases.count(name) for name in "abcd") <= 6  # 1.25 times the mean, rounded up


@virtually
async def test_a_cache_does_not_make_up_for_a_much_slower_server() -> None:
    pool = group(deployment("a", slots=8), deployment("b", slots=8))
    for server, seconds in zip(pool.servers, (0.1, 0.5), strict=True):
        server.latency.observe(seconds, 0.0)
    for number in range(10):
        lease = await take(pool, prefix=prompt(f"document {number} " * 200))
        assert named([lease]) == "a"
        pool.give_back(lease)


@virtually
async def test_affinity_can_be_turned_off() -> None:
    pool = group(*(deployment(name, slots=2) for name in "abcd"), affinity=False)
    prefix = prompt("the same for all " * 200)
    assert sorted(named([await take(pool, prefix=prefix) for _ in range(4)])) == list("abcd")


# --------------------------------------------------------------------------------------- hedging


async def after(seconds: float, result: object) -> object:
    await asyncio.sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


@pytest.mark.parametrize(
    ("first", "second", "result", "seconds"),
    [
        ((1, "a"), (1, "b"), "a", 1),
        ((9, "a"), (1, "b"), "b", 3),
        ((9, "a"), None, "a", 9),
        ((9, "a"), (1, TransientError("b")), "a", 9),
        ((4, TransientError("a")), (5, "b"), "b", 7),
        ((4, TransientError("a")), (1, TransientError("b")), "a", 4),
        ((1, TransientError("a")), (1, "b"), "a", 1),
    ],
)
def test_the_first_answer_counts(first, second, result, seconds) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        call = hedged(after(*first), 2.0, lambda: after(*second) if second else None)
        try:
            assert await call == result
        except TransientError as error:
            assert error.message == result
        assert loop.time() == pytest.approx(seconds)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(play())


@virtually
async def test_cancelling_a_hedged_call_cancels_both() -> None:
    task = asyncio.create_task(hedged(after(9, "a"), 1.0, lambda: after(9, "b")))
    await asyncio.sleep(2)
    assert len(asyncio.all_tasks()) == 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
