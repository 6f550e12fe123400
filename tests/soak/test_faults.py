"""Schedules of the operator and seeds of its watches in full, and all mutants: `make soak` only."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.faults import watches
from tests.faults.__main__ import schedules, undisturbed
from tests.faults.mutants import MUTANTS
from tests.faults.survey import WANTED, try_mutant
from tests.faults.world import run

SCHEDULES = 10_000


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_schedules() -> None:
    writes = {name: outcome.writes for name, outcome in undisturbed().items()}
    failed = []
    for schedule in islice(schedules(writes), SCHEDULES):
        outcome = run(schedule)
        if outcome.findings:
            failed.append(f'--replay "{schedule}": {outcome.findings}')
    assert not failed, "\n".join(failed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_seeds_of_the_watches() -> None:
    failed = []
    for seed in range(SCHEDULES):
        outcome = watches.run(seed)
        if outcome.findings:
            failed.append(f"--watches --seed {seed}: {outcome.findings}")
    assert not failed, "\n".join(failed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_nearly_all_mutants_are_caught() -> None:
    verdicts = [try_mutant(mutant) for mutant in MUTANTS]
    survived = [verdict.mutant.name for verdict in verdicts if not verdict.caught]
    assert len(survived) <= (1 - WANTED) * len(MUTANTS), survived
