"""The harness finds what it is there to find: a few mutants in the suite, all in tests/soak."""

from __future__ import annotations

import pytest

from tests.faults.mutants import MUTANTS
from tests.faults.mutate import Mutant, StaleMutantError, source_of
from tests.faults.survey import try_mutant

SHORT = ("job-before-reservation", "uid-is-not-recorded", "silent-pods-are-believed")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_source(mutant: Mutant) -> None:
    assert mutant.mutated(source_of(mutant.module)) != source_of(mutant.module)


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30


@pytest.mark.parametrize("name", SHORT)
def test_some_mutants_are_caught(name: str) -> None:
    (mutant,) = (each for each in MUTANTS if each.name == name)
    verdict = try_mutant(mutant, schedules=300)
    assert verdict.caught, f"{name} survived"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("no such text", "", "0 times"),
        ("import ", "", "times, not once"),
        ("def act(", "def act act(", "no Python"),
    ],
)
def test_a_mutant_that_no_longer_fits_fails_loudly(old: str, new: str, words: str) -> None:
    stale = Mutant("stale", "store", old, new)
    if old.startswith("def"):
        stale = Mutant("stale", "apply", "    async def act(", "    async def act act(")
    with pytest.raises(StaleMutantError, match=words):
        stale.mutated(source_of(stale.module))
