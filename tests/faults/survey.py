"""The survey: the harness over each mutant, and how many it catches."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.mutants import MUTANTS
from tests.faults.mutate import ENVIRONMENT, Mutant, source_of

ROOT = Path(__file__).resolve().parents[2]
#: The share that must be caught, and the schedules that each mutant is given.
WANTED, SCHEDULES = 0.95, 3000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the harness made of one mutant."""

    mutant: Mutant
    caught: bool
    seconds: float
    #: The schedule and the finding that caught it.
    how: str


def try_mutant(mutant: Mutant, schedules: int = SCHEDULES, seed: int = 1) -> Verdict:
    """Run the harness over one mutant, in a process of its own, until it is caught."""
    mutant.mutated(source_of(mutant.module))
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tests.faults", "--stop-at", "1"]
    command += ["--schedules", str(schedules), "--first", str(seed)]
    command += ["--watches"] * (mutant.harness == "watches")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {ENVIRONMENT: mutant.name},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1} or "failed" not in done.stdout:
        raise RuntimeError(f"mutant {mutant.name}: {done.stdout}{done.stderr}")
    lines = [line.strip() for line in done.stdout.splitlines()]
    how = " | ".join(lines[:2]) if done.returncode else ""
    return Verdict(mutant, done.returncode == 1, time.perf_counter() - begun, how)


def survey(names: Iterable[str] | None = None, schedules: int = SCHEDULES) -> int:
    """Try them all, say what became of each; 0 where enough were caught."""
    chosen = [each for each in MUTANTS if names is None or each.name in set(names)]
    caught = 0
    for mutant in chosen:
        verdict = try_mutant(mutant, schedules)
        caught += verdict.caught
        word = "caught  " if verdict.caught else "SURVIVED"
        print(f"{word} {mutant.name} ({verdict.seconds:.1f} s) {verdict.how[:200]}", flush=True)
    share = caught / len(chosen)
    print(f"{caught} of {len(chosen)} mutants caught: {share:.0%}, {WANTED:.0%} are wanted")
    return 0 if share >= WANTED else 1
