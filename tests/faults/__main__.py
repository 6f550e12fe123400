"""`python -m tests.faults`: run schedules, or one of them again.

python -m tests.faults --schedules 10000  # of the grid and random ones, in turn
python -m tests.faults --seed 4711                  # a random schedule again
python -m tests.faults --replay "retry w3:lost"     # any schedule, by its text
python -m tests.faults --watches --schedules 1000   # seeds of the watches' own harness
python -m tests.faults --watches --seed 4711        # one of them again
python -m tests.faults --mutants                    # is the harness worth something?
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import count, islice
from random import Random

from tests.faults.mutate import apply_from_environment

apply_from_environment()  # Before anything of the operator is imported.

from tests.faults import watches  # noqa: E402
from tests.faults.scenarios import SCENARIOS  # noqa: E402
from tests.faults.schedule import Schedule, grid, parse, random_schedule  # noqa: E402
from tests.faults.survey import survey  # noqa: E402
from tests.faults.world import Outcome, run  # noqa: E402


def undisturbed(stop_at: int = 1000) -> dict[str, Outcome]:
    """Each life-cycle, with nothing going wrong; ends early after so many findings."""
    known: dict[str, Outcome] = {}
    for name in SCENARIOS:
        known[name] = run(Schedule(name))
        if sum(bool(outcome.findings) for outcome in known.values()) >= stop_at:
            break
    return known


def schedules(writes: dict[str, int], first: int = 0) -> Iterator[Schedule]:
    """Cells of the grid, random schedules, and calm ones at other moments in turn, spread evenly: a
    few of them tell much.

    `first` is the first random schedule's seed, and says in which order the cells come.
    """
    cells, names = grid(writes), sorted(writes)
    Random(first).shuffle(cells)
    for number in count(first):
        yield cells[(number - first) % len(cells)]
        yield random_schedule(number, writes)
        yield Schedule(names[number % len(names)], seed=number, jitter=True)


def report(what: str, again: str, findings: Iterable[str], log: Iterable[str] = ()) -> None:
    """Say what went wrong, and how to see it again."""
    print(f"FAILED  {what}")
    for line in [*findings, f"again: python -m tests.faults {again}", *log]:
        print(f"        {line}", flush=True)


def work(some: Iterable[Schedule], *, stop_at: int, log: bool = False) -> tuple[int, int]:
    """Run them; how many were run, and how many failed."""
    ran = failed = 0
    for schedule in some:
        ran += 1
        if ran % 500 == 0:
            print(f"{ran} schedules, {failed} failed", file=sys.stderr, flush=True)
        outcome = run(schedule)
        if outcome.findings:
            failed += 1
            report_schedule(outcome, log=log)
            if failed >= stop_at:
                break
    return ran, failed


def report_schedule(outcome: Outcome, *, log: bool = False) -> None:
    """As `report`."""
    again = f'--replay "{outcome.schedule}"'
    report(str(outcome.schedule), again, outcome.findings, outcome.log if log else ())


def watch(seeds: Iterable[int], *, stop_at: int, log: bool) -> int:
    """Run seeds of the watches' harness; 0 where nothing was found."""
    begun, ran, failed = time.perf_counter(), 0, 0
    for seed in seeds:
        ran += 1
        outcome = watches.run(seed)
        if outcome.findings:
            failed += 1
            again = f"--watches --seed {seed}"
            report(f"watches seed={seed}", again, outcome.findings, outcome.calls if log else ())
            if failed >= stop_at:
                break
    print(f"{ran} seeds in {time.perf_counter() - begun:.1f} s: {failed} failed")
    return 1 if failed else 0


def main() -> int:
    """0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--schedules", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, help="run the random schedule of this seed alone")
    parser.add_argument("--replay", help="run this schedule alone")
    parser.add_argument("--first", type=int, default=0, help="the first random one's seed")
    parser.add_argument("--only", help="scenarios whose name begins so")
    parser.add_argument("--stop-at", type=int, default=20, help="end after so many failures")
    parser.add_argument("--watches", action="store_true", help="seeds of the watches instead")
    parser.add_argument("--mutants", action="store_true", help="run the harness over each mutant")
    parser.add_argument("--mutant", help="with --mutants: this one alone")
    chosen = parser.parse_args()
    if chosen.mutants:
        return survey([chosen.mutant] if chosen.mutant else None, chosen.schedules)
    if chosen.watches:
        alone = chosen.seed is not None
        seeds = [chosen.seed] if alone else range(chosen.first, chosen.first + chosen.schedules)
        return watch(seeds, stop_at=chosen.stop_at, log=alone)
    begun = time.perf_counter()
    if chosen.replay:
        some: Iterable[Schedule] = [parse(chosen.replay)]
        first: list[Outcome] = []
    else:
        known = undisturbed(chosen.stop_at)
        first = [outcome for outcome in known.values() if outcome.findings]
        for outcome in first:
            report_schedule(outcome)
        writes = {
            name: outcome.writes
            for name, outcome in known.items()
            if name.startswith(chosen.only or "")
        }
        if chosen.seed is not None:
            some = [random_schedule(chosen.seed, writes)]
        else:
            some = islice(schedules(writes, chosen.first), chosen.schedules)
    single = bool(chosen.replay) or chosen.seed is not None
    ran, failed = (
        work(some, stop_at=max(1, chosen.stop_at - len(first)), log=single)
        if len(first) < chosen.stop_at
        else (0, 0)
    )
    failed += len(first)
    took = time.perf_counter() - begun
    print(f"{ran} schedules in {took:.1f} s: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
