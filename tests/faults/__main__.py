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


def report(outcome: Outcome | watches.Outcome, *, log: bool = False) -> None:
    """Say what went wrong, and how to see it again."""
    print(f"FAILED  {outcome.name}")
    again = f"again: python -m tests.faults {outcome.again}"
    for line in [*outcome.findings, again, *(outcome.log if log else ())]:
        print(f"        {line}", flush=True)


def work(
    some: Iterable[Outcome | watches.Outcome], *, stop_at: int, log: bool = False
) -> tuple[int, int]:
    """See what comes of them; how many were run, and how many failed."""
    ran = failed = 0
    for outcome in some:
        ran += 1
        if outcome.findings:
            failed += 1
            report(outcome, log=log)
            if failed >= stop_at:
                break
        if ran % 500 == 0:
            print(f"{ran} run, {failed} failed", file=sys.stderr, flush=True)
    return ran, failed


def summary(ran: int, what: str, failed: int, begun: float) -> int:
    """Say how it went; the exit code."""
    print(f"{ran} {what} in {time.perf_counter() - begun:.1f} s: {failed} failed")
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
    begun = time.perf_counter()
    if chosen.mutants:
        return survey([chosen.mutant] if chosen.mutant else None, chosen.schedules)
    if chosen.watches:
        alone = chosen.seed is not None
        seeds = [chosen.seed] if alone else range(chosen.first, chosen.first + chosen.schedules)
        ran, failed = work(map(watches.run, seeds), stop_at=chosen.stop_at, log=alone)
        return summary(ran, "seeds", failed, begun)
    if chosen.replay:
        some: Iterable[Schedule] = [parse(chosen.replay)]
        first: list[Outcome] = []
    else:
        known = undisturbed(chosen.stop_at)
        first = [outcome for outcome in known.values() if outcome.findings]
        for outcome in first:
            report(outcome)
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
        work(map(run, some), stop_at=max(1, chosen.stop_at - len(first)), log=single)
        if len(first) < chosen.stop_at
        else (0, 0)
    )
    return summary(ran, "schedules", failed + len(first), begun)


if __name__ == "__main__":
    sys.exit(main())
