"""The ledger: no sequence of reserve, settle, cancel and failure makes it wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_server.engine.ledger import ANSWER_TOKENS, Ledger, LimitReached, Price, add
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
