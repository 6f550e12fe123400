"""Schedules of the operator and seeds of its watches in full, and all mutants: `make soak` only."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import pytest

from tests.faults import watches
from tests.faults.__main__ import schedules, undisturbed
from tests.faults.mutants import MUTANTS
from tests.faults.survey import WANTED, try_mutant
from tests.faults.world import Outcome, run

SCHEDULES = 10_000


def well(outcomes: Iterable[Outcome | watches.Outcome]) -> None:
    failed = [f"{one.again}: {one.findings}" for one in outcomes if one.findings]
    assert not failed, "\n".join(failed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_schedules() -> None:
    writes = {name: outcome.writes for name, outcome in undisturbed().items()}
    well(map(run, islice(schedules(writes), SCHEDULES)))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_seeds_of_the_watches() -> None:
    well(map(watches.run, range(SCHEDULES)))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_nearly_all_mutants_are_caught() -> None:
    verdicts = [try_mutant(mutant) for mutant in MUTANTS]
    survived = [verdict.mutant.name for verdict in verdicts if not verdict.caught]
    assert len(survived) <= (1 - WANTED) * len(MUTANTS), survived
