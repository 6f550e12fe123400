"""A part of the watches' seeds in the suite; all ten thousand of them are in tests/soak."""

from __future__ import annotations

import pytest

from tests.faults.watches import Outcome, run

FOUND: list[int] = []


def well(outcome: Outcome) -> None:
    again = f"python -m tests.faults --watches --seed {outcome.seed}"
    assert not outcome.findings, "\n".join([again, *outcome.findings])


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_is_not_found_again(seed: int) -> None:
    well(run(seed))


def test_a_part_of_the_seeds() -> None:
    for seed in range(200):
        well(run(seed))


def test_a_run_is_a_function_of_its_seed() -> None:
    for seed in range(10):
        first, second = run(seed), run(seed)
        assert (first.calls, first.findings) == (second.calls, second.findings)
    assert run(0).calls != run(1).calls
