"""The clock of a run stands still while anybody holds it."""

import pytest

from rlm_server.engine.clock import Clock


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_held_does_not_count() -> None:
    time = Time()
    clock = Clock(time)
    told: list[bool] = []
    clock.on_change = lambda: told.append(clock.held)
    time.now += 30
    assert clock() == 130
    with clock.hold():
        time.now += 1000
        with clock.hold():
            time.now += 1000
        time.now += 1000
        assert clock() == 130
    time.now += 1
    assert clock() == 131
    assert told == [True, False]


def test_it_goes_on_after_a_failure() -> None:
    time = Time()
    clock = Clock(time)
    with pytest.raises(ValueError, match="no"), clock.hold():
        time.now += 5
        raise ValueError("no")
    time.now += 1
    assert clock() == 101
    assert not clock.held
