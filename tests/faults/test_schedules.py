"""A part of the schedules in the suite; all ten thousand of them are in tests/soak."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.faults.__main__ import schedules
from tests.faults.scenarios import SCENARIOS
from tests.faults.schedule import Schedule, grid, parse, random_schedule
from tests.faults.world import Outcome, run

#: What schedules have found, and must not find again.
FOUND = [
    # Pods with our labels that are nobody's business: were patched, and held up ends.
    "strangers seed=0",
    "strangers-suspend seed=0",
    # A Job deleted while the watch was away was believed to run for ever.
    "suspend-resume seed=17 w9:crash-before watch:lag=0.5,repeat=0.2,merge=0.5,cut=3 jitter",
    # Ended before its checkpoint was loaded: the epochs went back to 0.
    "interrupted-again-and-again seed=97 w11:crash-before watch:lag=12,repeat=0.2 kill@32.7 jitter",
    # Suspended before its UID was in status, killed, resumed: its Job was made a second time.
    "suspend-while-starting seed=20 w3:crash-after w4:crash-before watch:lag=12,cut=10 jitter",
    # An operator that was behind deleted the newer attempt's Job as a stray.
    "more-epochs-afterwards seed=52 watch:lag=3 freeze@16.5+400 twin@16.5 jitter",
    # `stop` failed a job whose pod ran, and had not been heard of yet.
    "stop seed=9130 watch:lag=12,drop=0.3,cut=3 kill@37.5 freeze@18.9+20 dark=60",
    # Trained to the end, but the watch had not told: the deadline failed it.
    "deadline-stands-still seed=20438 r12:500 r13:429 watch:drop=0.3 kill@18.4 dark=60 jitter",
    # Admitted by its queue, and still called queued; or said to have no controller.
    "queue-preempted seed=0",
    "queue-deadline seed=0",
    # Its label was changed before its UID was in status: its Job was ended as a stray, or unknown.
    "drift-attempt-label seed=266 w14:410 w21:504-done watch:lag=12,drop=0.1,merge=0.5",
    # Its label was taken, put back, or given another's name: it was gone for good, or unheard of.
    "queue-drift seed=50463 w17:429 r21:timeout watch:repeat=0.2,cut=3 kill@0.9 jitter",
    "drift-label-of-another seed=0",
    "drift-other-label seed=141 w14:late r13:500 watch:lag=12,repeat=0.2,cut=10 kill@7.6 dark=10",
    # The pod that Kueue had taken away told how the Job had ended.
    (
        "queue-deadline seed=288 w23:crash-before r1:503 "
        "watch:lag=12,drop=0.1,repeat=0.2,merge=0.5 kill@24.9"
    ),
    # Nobody had told that its queue took the job's place away: its deadline passed.
    (
        "queue-deadline seed=50754 w7:504-done w9:crash-after w18:crash-before w21:504-done "
        "w23:500 r10:timeout r20:429 r21:410 watch:drop=0.3,repeat=0.2,merge=0.5 dark=60 jitter"
    ),
    # An old event brought a job back that was gone, and its clean-up with it.
    "run-goes-with-it seed=51341 w11:504-done watch:lag=12",
    # Of two operators one had missed that a preempted pod had gone: they contradicted each other.
    (
        "queue-preempted-often seed=71136 w37:crash-after r17:429 watch:lag=0.5,repeat=0.2,cut=10 "
        "kill@6.5 twin@15.3"
    ),
    # A pod from before others had suspended the Job was taken to tell how it had ended.
    "drift-suspended seed=90245 watch:lag=12,merge=0.5",
    # Of a pod that had lost its label nothing was heard any more; a second attempt began beside it.
    "drift-pod-hidden-and-deleted seed=0",
    (
        "drift-pod-hidden-and-deleted seed=111044 w18:503 r5:crash-before r17:500 r21:500 "
        "watch:lag=0.5,cut=3 kill@2.9 jitter"
    ),
    "drift-pods-labels seed=50 w7:504-done w11:429-long watch:drop=0.3,cut=3 twin@29.4 dark=60",
]


def well(outcome: Outcome) -> None:
    again = f"python -m tests.faults {outcome.again}"
    assert not outcome.findings, "\n".join([again, *outcome.findings])


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Outcome]:
    return {name: run(Schedule(name)) for name in SCENARIOS}


def test_every_life_cycle_ends_as_it_must(undisturbed: dict[str, Outcome]) -> None:
    for outcome in undisturbed.values():
        well(outcome)


def test_a_whole_life_takes_few_writes(undisturbed: dict[str, Outcome]) -> None:
    """Reserve, create, run, each epoch, end; and two events."""
    assert undisturbed["train"].writes <= 2 + 1 + 2 * SCENARIOS["train"].epochs + 1 + 2


@pytest.mark.parametrize("text", FOUND, ids=lambda text: text[:24])
def test_what_was_found_is_not_found_again(text: str) -> None:
    schedule = parse(text)
    assert parse(str(schedule)) == schedule
    well(run(schedule))


def test_a_part_of_the_schedules(undisturbed: dict[str, Outcome]) -> None:
    writes = {name: outcome.writes for name, outcome in undisturbed.items()}
    for schedule in islice(schedules(writes, first=5), 240):
        well(run(schedule))


def test_a_schedule_is_a_function_of_its_seed() -> None:
    writes = dict.fromkeys(SCENARIOS, 10)
    for seed in range(30):
        schedule = random_schedule(seed, writes)
        assert random_schedule(seed, writes) == schedule == parse(str(schedule))
    schedule = parse("retry seed=7 w3:crash-after watch:lag=3,repeat=0.2,merge=0.5,cut=10 jitter")
    first, second = run(schedule), run(schedule)
    assert (first.log, first.calls) == (second.log, second.calls)


def test_the_grid_has_every_write_and_every_fault() -> None:
    cells = {str(cell) for cell in grid({"train": 11})}
    assert "train seed=0 w0:crash-before" in cells
    assert "train seed=0 w10:lost" in cells


@pytest.mark.parametrize("text", ["train w0:no-such", "train hurry", "train w:409"])
def test_a_schedule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.split()[1]):
        parse(text)
