"""Throughput and the estimate of what is left, on a clock that the test moves."""

from __future__ import annotations

import pytest

from kubeseg_trainer.engine.pace import _EXPORT, _FORWARD, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """40 training samples, 10 of validation."""
    return Pace(40, 10, clock=clock)


def steps(
    pace: Pace, clock: Clock, *, size: int = 10, first: float = 2.0, each: float = 2.0
) -> None:
    for position in range(size, 41, size):
        clock.now += first if position == size else each
        pace.step(position)


def epoch(pace: Pace, clock: Clock, *, first: float = 2.0, validation: float = 1.0) -> None:
    pace.begin(0)
    steps(pace, clock, first=first)
    pace.trained()
    clock.now += validation
    pace.validated()
    clock.now += 0.5
    pace.finished()


def test_nothing_is_known_before_the_first_step_ends(pace: Pace) -> None:
    pace.begin(0)
    assert pace.left(epochs=3, position=0) is None
    assert pace.samples_per_second is None


def test_the_first_epoch_has_an_estimate_and_warming_up_does_not_spoil_it(
    pace: Pace, clock: Clock
) -> None:
    pace.begin(0)
    clock.now += 30.0
    pace.step(10)
    clock.now += 2.0
    pace.step(20)
    # 0.2 s a sample; a validation that was not measured yet takes a share of that.
    rest = 10 * 0.2 * _FORWARD
    assert pace.left(epochs=3, position=20) == pytest.approx(0.2 * 100 + 3 * rest + _EXPORT)
    # What is reported as throughput leaves nothing out.
    assert pace.samples_per_second == pytest.approx(20 / 32)


def test_later_it_counts_validation_and_what_is_written(pace: Pace, clock: Clock) -> None:
    epoch(pace, clock)
    assert pace.validation_seconds == pytest.approx(1.0)
    assert pace.left(epochs=2, position=0) == pytest.approx(2 * (8.0 + 1.5) + _EXPORT)


def test_it_comes_true(pace: Pace, clock: Clock) -> None:
    """With an even pace the estimate at any step is what then passes."""
    epoch(pace, clock, first=20.0)
    told, began = pace.left(epochs=3, position=0), clock.now
    for _ in range(3):
        epoch(pace, clock)
    assert told == pytest.approx(clock.now - began + _EXPORT)
    assert pace.left(epochs=0, position=0) == _EXPORT


def test_a_slower_volume_shows_within_a_few_epochs(pace: Pace, clock: Clock) -> None:
    for _ in range(3):
        epoch(pace, clock)
    for _ in range(5):
        epoch(pace, clock, validation=9.0)
    assert pace.left(epochs=1, position=0) == pytest.approx(8.0 + 9.5 + _EXPORT)


def test_time_between_steps_counts(pace: Pace, clock: Clock) -> None:
    pace.begin(0)
    clock.now += 1.0
    assert pace.step(10) == pytest.approx(1.0)
    clock.now += 4.0  # a checkpoint, and the next step
    assert pace.step(20) == pytest.approx(4.0)
    assert pace.seconds == pytest.approx(5.0)


def test_a_start_that_only_validates_measures_no_step(pace: Pace, clock: Clock) -> None:
    pace.begin(40)
    pace.trained()
    clock.now += 1.0
    pace.validated()
    pace.finished()
    assert pace.samples_per_second is None
    assert pace.left(epochs=2, position=0) is None


def test_epochs_of_one_step(pace: Pace, clock: Clock) -> None:
    pace.begin(0)
    clock.now += 4.0
    pace.step(40)
    pace.trained()
    pace.validated()
    pace.finished()
    assert pace.left(epochs=1, position=0) == pytest.approx(4.0 + _EXPORT)
