"""The ledger: no sequence of reserve, settle, cancel and failure makes it wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.engine.ledger import (
    ANSWER_TOKENS,
    Ledger,
    LimitReached,
    Price,
    Reservation,
    add,
)
from rlm_server.protocol import Limits, Usage

FREE = Price(0.0, 0.0)


def used(prompt: int, completion: int, cost: float | None = 0.0) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cost=cost)


def test_what_was_settled_is_the_usage() -> None:
    ledger = Ledger(Limits())
    first = ledger.reserve("0.1", ["a" * 300], FREE, subcall=False)
    second = ledger.reserve("0.1", ["b"], FREE, subcall=True)
    ledger.settle(first, used(100, 5, 0.5))
    ledger.settle(second, used(1, 2, 0.25))
    assert ledger.usage == used(101, 7, 0.75)
    assert (ledger.subcalls_started, ledger.subcalls_done) == (1, 1)


def test_a_call_that_was_not_paid_gives_its_reservation_back() -> None:
    ledger = Ledger(Limits(tokens=ANSWER_TOKENS + 100))
    for _ in range(5):
        ledger.settle(ledger.reserve("0.1", ["x"], FREE, subcall=False), None)
    assert ledger.usage == Usage()


def test_reservations_count_before_they_are_settled() -> None:
    ledger = Ledger(Limits(tokens=2 * ANSWER_TOKENS))
    ledger.reserve("0.1", ["x"], FREE, subcall=False)
    with pytest.raises(LimitReached, match="tokens"):
        ledger.reserve("0.1", ["x"], FREE, subcall=False)


def test_the_limit_of_subcalls_does_not_concern_the_root_model() -> None:
    ledger = Ledger(Limits(subcalls=0))
    ledger.reserve("0.1", ["x"], FREE, subcall=False)
    with pytest.raises(LimitReached, match="0 sub-calls"):
        ledger.reserve("0.1", ["x"], FREE, subcall=True)


def test_an_unknown_price_is_refused_only_under_a_cost_limit() -> None:
    unknown = Price(None, 1.0)
    Ledger(Limits()).reserve("0.1", ["x"], unknown, subcall=False)
    with pytest.raises(LimitReached, match="price is unknown"):
        Ledger(Limits(cost=1.0)).reserve("0.1", ["x"], unknown, subcall=False)


def test_a_cost_limit_counts_the_worst_case() -> None:
    ledger = Ledger(Limits(cost=1.0))
    dear = Price(0.0, 1_000_000 / ANSWER_TOKENS * 0.6)
    ledger.reserve("0.1", ["x"], dear, subcall=False)
    with pytest.raises(LimitReached, match="cost limit"):
        ledger.reserve("0.1", ["x"], dear, subcall=False)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Plain words. ", 13 / 3),
        ("это слова", 8),
        ("\u8fd9\u662f\u6587\u672c", 6),
        ("\U0001f600", 2),
    ],
)
def test_text_in_other_scripts_has_room_set_aside_for_its_tokens(text: str, tokens: float) -> None:
    """What common tokenizers make of it at most; for plain text it stays three characters."""
    ledger = Ledger(Limits(cost=1e9))
    set_aside = ledger.reserve("0.1", [text] * 100, Price(1.0, 0.0), subcall=False)
    prompt = set_aside.tokens - ANSWER_TOKENS
    assert 100 * tokens <= prompt <= 100 * tokens * 1.2 + 1
    assert set_aside.cost == pytest.approx(prompt / 1e6)


def test_text_that_is_no_unicode_can_be_paid() -> None:
    Ledger(Limits()).reserve("0.1", ["\ud800"], FREE, subcall=False)


def test_an_unknown_part_makes_the_sum_unknown() -> None:
    assert add(used(1, 1, 0.1), used(1, 1, None)).cost is None


calls = st.lists(
    st.tuples(
        st.integers(0, 3000),
        st.booleans(),
        st.one_of(st.none(), st.tuples(st.integers(0, 1000), st.integers(0, ANSWER_TOKENS))),
    ),
    max_size=30,
)


@given(calls, st.integers(1, 60_000), st.integers(0, 10), st.data())
def test_limits_hold_for_every_sequence(
    steps: list[tuple[int, bool, tuple[int, int] | None]],
    tokens: int,
    subcalls: int,
    data: st.DataObject,
) -> None:
    ledger = Ledger(Limits(tokens=tokens, subcalls=subcalls))
    waiting = []
    expected = Usage()
    for characters, subcall, outcome in steps:
        try:
            reservation = ledger.reserve("0.1", ["x" * characters], FREE, subcall=subcall)
        except LimitReached:
            continue
        bound = characters // 3 + 1
        usage = outcome and used(min(outcome[0], bound), outcome[1])
        waiting.append((reservation, usage))
        if data.draw(st.booleans()):
            done, what = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            ledger.settle(done, what)
            expected = add(expected, what) if what else expected
    for reservation, usage in waiting:
        ledger.settle(reservation, usage)
        expected = add(expected, usage) if usage else expected
    assert ledger.usage == expected
    assert expected.prompt_tokens + expected.completion_tokens <= tokens
    assert ledger.subcalls_started == ledger.subcalls_done <= subcalls


NODES = st.lists(st.integers(1, 3), min_size=1, max_size=6).map(
    lambda path: ".".join(["0", *map(str, path)])
)
ENDS = st.sampled_from(["paid", "failed", "cancelled"])
STEPS = st.lists(
    st.tuples(NODES, st.integers(0, 3000), st.integers(0, 8), ENDS, st.integers(0, 100)),
    max_size=30,
)


@given(STEPS, st.data())
def test_no_sequence_makes_a_node_or_the_money_wrong(
    steps: list[tuple[str, int, int, str, int]], data: st.DataObject
) -> None:
    """Calls of known prices are reserved, paid, failed and cancelled while limits change."""
    ledger = Ledger(Limits())
    waiting: list[tuple[Reservation, Usage | None]] = []
    paid: list[tuple[str, Usage]] = []

    def settle(index: int) -> None:
        reservation, usage = waiting.pop(index)
        ledger.settle(reservation, usage)
        if usage is not None:
            paid.append((reservation.node, usage))

    for node, characters, rate, end, share in steps:
        price = Price(float(rate), float(2 * rate))
        try:
            reservation = ledger.reserve(node, ["x" * characters], price, subcall=True)
        except LimitReached:
            assert ledger.limits.cost is not None
        else:
            # Whatever comes of it is at most what was set aside.
            prompt, answer = characters // 4, ANSWER_TOKENS * share // 100
            usage = {
                "paid": used(prompt, answer, price.of(prompt, answer)),
                "failed": None,
                "cancelled": used(prompt, 0, price.of(prompt, 0)),
            }[end]
            waiting.append((reservation, usage))
        if data.draw(st.booleans()) and waiting:
            settle(data.draw(st.integers(0, len(waiting) - 1)))
        if data.draw(st.booleans()):
            # A limit that is set now holds for all that is not begun yet.
            at_worst = (ledger.usage.cost or 0.0) + sum(r.cost for r, _ in waiting)
            ledger.limits = Limits(cost=at_worst + data.draw(st.floats(0, 1)))
    limit, begun = ledger.limits.cost, len(waiting)
    while waiting:
        settle(0)
    assert limit is None or (ledger.usage.cost or 0.0) <= limit + 1e-9
    assert ledger.subcalls_done == ledger.subcalls_started >= begun
    assert ledger.usage.cost == pytest.approx(sum(usage.cost or 0.0 for _, usage in paid))
    for above in {"0", *(node[:cut] for node, _ in paid for cut in range(1, len(node) + 1, 2))}:
        below = [usage for node, usage in paid if node == above or node.startswith(above + ".")]
        total = ledger.below(above)
        assert total.prompt_tokens == sum(usage.prompt_tokens for usage in below)
        assert total.completion_tokens == sum(usage.completion_tokens for usage in below)
        assert total.cost == pytest.approx(sum(usage.cost or 0.0 for usage in below))
