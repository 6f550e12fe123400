"""A part of the watches' seeds in the suite; all ten thousand of them are in tests/soak."""

from __future__ import annotations

import pytest

from tests.faults.watches import Outcome, run

#: What seeds have found, and must not find again.
FOUND = [
    # A proxy's page, read as an object, was a TrainingJob without a name; as a list, an empty one.
    24,
    # An ERROR event without a Status ended the operator.
    4,
    # A pod that came while a live read was on its way was gone to it.
    100,
    450,
    # With an older list, or a live read, a pod was with two TrainingJobs.
    40,
    329,
    # Labelled with no name, it stayed with the TrainingJob that it had named before.
    6,
    # Of a pod whose TrainingJob was gone too nobody knew the end: an old list brought it back.
    111,
    333,
    # A list dropped what came back while it was read.
    1916,
    2473,
    # A list that was slower than a newer one brought back what nobody had heard of.
    4234,
]


def well(outcome: Outcome) -> None:
    again = f"python -m tests.faults {outcome.again}"
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
        assert (first.log, first.findings) == (second.log, second.findings)
    assert run(0).log != run(1).log
