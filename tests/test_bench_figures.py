"""Figures, turns and pipelines, with a clock of our own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.bench.figures import median, pair_ratios, percentile, tail
from isa_deploy.bench.pace import MAX_CALLS, TURN_S, calls_in_turn, pipelined_turn, sequential_turn, warm_up
from isa_deploy.bench.race import MIN_ROUNDS, Limit, Turn, race
from isa_deploy.bench.record import Facts, make_peak, make_result

SECONDS = st.floats(min_value=1e-6, max_value=1e4)


@dataclass
class FakeClock:
    """Time that passes when it is told to."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeRacer:
    name: str
    clock: FakeClock
    durations: Iterator[float]
    order: list[str]

    def turn(self) -> Turn:
        seconds = next(self.durations)
        self.order.append(self.name)
        self.clock.work(seconds)
        return Turn(1, seconds, (seconds,))


@given(st.lists(SECONDS, min_size=1, max_size=300), st.floats(min_value=0, max_value=100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-9)


@given(st.lists(SECONDS, min_size=1, max_size=250))
def test_the_tail_is_the_maximum_until_there_are_a_hundred_samples(values: list[float]) -> None:
    found = tail(values)
    if len(values) < 100:
        assert (found.kind, found.value) == ("max", max(values))
    else:
        assert found.kind == "p99"
        assert found.value == pytest.approx(float(np.percentile(values, 99)), rel=1e-9)


def test_no_samples_have_no_figures() -> None:
    with pytest.raises(ValueError, match="0 values"):
        median([])


def racers(clock: FakeClock, order: list[str], *durations: list[float]) -> list[FakeRacer]:
    return [FakeRacer(name, clock, iter(each), order) for name, each in zip("ABC", durations, strict=False)]


def test_contestants_take_turns_and_none_goes_twice_in_a_row() -> None:
    clock, order = FakeClock(), list[str]()
    turns = race(racers(clock, order, [1.0] * 4, [2.0] * 4, [3.0] * 4), Limit(rounds=4), clock)
    assert "".join(order) == "ABC" * 4
    assert [len(taken) for taken in turns] == [4, 4, 4]
    assert [taken[0].seconds for taken in turns] == [1.0, 2.0, 3.0]


def test_a_race_by_seconds_ends_with_a_whole_round() -> None:
    clock, order, parts = FakeClock(), list[str](), list[float]()
    turns = race(racers(clock, order, [1.0] * 99, [2.0] * 99), Limit(seconds=14.0), clock, parts.append)
    assert "".join(order) == "AB" * 5  # 15 s
    assert len(turns[0]) == len(turns[1]) == 5
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_a_race_by_seconds_has_three_rounds_even_of_slow_contestants() -> None:
    clock, order = FakeClock(), list[str]()
    race(racers(clock, order, [60.0] * 99), Limit(seconds=1.0), clock)
    assert len(order) == MIN_ROUNDS


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=40), st.floats(min_value=0.1, max_value=10))
def test_a_drift_that_slows_all_contestants_leaves_the_ratio_alone(
    rounds: list[tuple[float, float]], ratio: float
) -> None:
    drift = [slow for slow, _ in rounds]
    first, second = drift, [slow * ratio for slow in drift]
    assert pair_ratios(second, first) == pytest.approx([ratio] * len(drift))


def test_calls_one_after_another_add_up_to_the_turn() -> None:
    clock = FakeClock()
    durations = deque([0.5, 0.25, 0.125])
    turn = sequential_turn(lambda: clock.work(durations.popleft()), 3, 4, clock)
    assert turn.frames == 12
    assert turn.calls_s == (0.5, 0.25, 0.125)
    assert turn.seconds == 0.875
    assert turn.rate == 12 / 0.875


@dataclass
class FakePipeline:
    """An engine that takes ``capacity`` calls and finishes one every second."""

    clock: FakeClock
    capacity: int
    free_at: float = 0.0
    in_flight: int = 0
    most: int = 0
    waiting: deque[float] = field(default_factory=deque)

    def submit(self) -> FakePipeline:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        self.free_at = max(self.free_at, self.clock.now) + 1.0
        self.waiting.append(self.free_at)
        return self

    def result(self) -> None:
        self.clock.now = max(self.clock.now, self.waiting.popleft())
        self.in_flight -= 1


@pytest.mark.parametrize("capacity", [2, 5])
def test_a_pipeline_is_measured_full(capacity: int) -> None:
    clock = FakeClock()
    engine = FakePipeline(clock, capacity)
    turn = pipelined_turn(engine.submit, capacity, 10, 2, clock)
    assert engine.most == capacity
    assert engine.in_flight == 0, "answers were left in the engine"
    assert turn.rate == 2.0, "two frames a call, a call a second: filling and emptying are not in it"
    assert turn.calls_s == (float(capacity),) * 10


@given(st.floats(min_value=1e-7, max_value=100), st.integers(min_value=1, max_value=64))
def test_a_turn_is_about_a_tenth_of_a_second(call_s: float, capacity: int) -> None:
    calls = calls_in_turn(call_s, capacity)
    assert calls >= (1 if capacity == 1 else 2 * capacity)
    assert calls % capacity == 0 or calls >= MAX_CALLS
    assert calls <= max(MAX_CALLS, 2 * capacity)
    if capacity == 1 and 1 < calls < MAX_CALLS:
        assert TURN_S <= calls * call_s < TURN_S + call_s


def test_the_first_call_is_told_apart_from_the_warm_ones() -> None:
    clock = FakeClock()
    durations = deque([5.0, 1.0, 0.75])
    warmed = warm_up(lambda: clock.work(durations.popleft()), clock)
    assert (warmed.first_s, warmed.call_s, warmed.calls) == (5.0, 0.75, 3)


def facts(name: str, gflop: float | None = None) -> Facts:
    return Facts(name, "library", "fp32", "cpu", 1, gflop, 0.0, 100.0)


def turns(*seconds: float, energy: float | None = None) -> list[Turn]:
    told = {} if energy is None else {"meter": energy}
    return [Turn(2, each, (each / 2, each / 2), told) for each in seconds]


def test_shares_and_ratios_are_of_the_same_round() -> None:
    first, second = turns(1.0, 2.0, 4.0), turns(2.0, 4.0, 8.0)
    peak = make_peak("fp32", [(facts("slow", 1.0), turns(9.0, 9.0, 9.0)), (facts("fast", 40.0), turns(1.0, 2.0, 4.0))])
    assert (peak.what, peak.rates) == ("fast", (80.0, 40.0, 20.0))
    clock = FakeClock()
    warmed = warm_up(lambda: clock.work(1.0), clock)
    result = make_result(facts("b"), warmed, second, first, 10.0, peak, 160.0)
    assert result.speed_to_first == (0.5, 0.5, 0.5)
    assert result.peak_share == 0.125
    assert result.frames_per_s == 0.5
    assert result.gflop_per_s == 5.0
    assert result.calls == 6
    assert result.growth_mib == 60.0
    assert result.energy_j_per_frame == {}


def test_a_share_above_the_peak_is_told_as_it_is() -> None:
    peak = make_peak("fp32", [(facts("product", 1.0), turns(1.0))])
    clock = FakeClock()
    warmed = warm_up(lambda: clock.work(1.0), clock)
    assert make_result(facts("a"), warmed, turns(1.0), turns(1.0), 3.0, peak, None).peak_share == 3.0


def test_energy_is_spread_over_all_frames() -> None:
    clock = FakeClock()
    warmed = warm_up(lambda: clock.work(1.0), clock)
    taken = turns(1.0, 1.0, energy=6.0)
    assert make_result(facts("a"), warmed, taken, taken, None, None, None).energy_j_per_frame == {"meter": 3.0}
