"""Schedules: what goes wrong in one run, as a text that can be replayed.

    retry seed=7 w3:crash-after r2:500 watch:lag=8,drop=0.1,cut=30 twin@12 freeze@9+40

`w3` is the fourth write of the operators, counted from 0 over all of them and with events, `r2` the
third read. Times are virtual seconds since the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from random import Random

#: What can happen to a write. The first seven leave no doubt to the operator that it was not done.
REFUSALS = ("409", "410", "422", "429", "429-long", "500", "503")
#: No answer: not done (dropped, timeout), done (lost, 504), or done much later (late).
UNKNOWN = ("dropped", "timeout", "lost", "504-done", "late")
CRASHES = ("crash-before", "crash-after")
WRITE_FAULTS = REFUSALS + UNKNOWN + CRASHES
READ_FAULTS = ("410", "429", "500", "503", "dropped", "timeout", "crash-before")


@dataclass(frozen=True, slots=True)
class Watching:
    """How the operators see the cluster."""

    #: Largest delay of an event in seconds; 0: all come at once.
    lag: float = 0.0
    #: Probabilities that an event never comes, comes again later, or gives way to its successor.
    drop: float = 0.0
    repeat: float = 0.0
    merge: float = 0.0
    #: Seconds between ends of the watch; 0: it never ends. Each is followed by a list.
    cut: float = 0.0

    def __str__(self) -> str:
        parts = [f"{n}={v:g}" for n in self.__slots__ if (v := getattr(self, n))]
        return f"watch:{','.join(parts)}" if parts else ""


@dataclass(frozen=True, slots=True)
class Freeze:
    """The first operator stands still at `at`, for `seconds`, while another one works; then it
    goes on from where it was.
    """

    at: float
    seconds: float

    def __str__(self) -> str:
        return f"freeze@{self.at:g}+{self.seconds:g}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run. `seed` gives paces and lags; with `jitter` users act at other moments, too."""

    scenario: str
    seed: int = 0
    writes: dict[int, str] = field(default_factory=dict)
    reads: dict[int, str] = field(default_factory=dict)
    watching: Watching = Watching()
    kills: tuple[float, ...] = ()
    freeze: Freeze | None = None
    twin: float | None = None
    jitter: bool = False
    #: Pods cannot be reached before this time.
    dark: float = 0.0

    def __str__(self) -> str:
        parts = [self.scenario, f"seed={self.seed}"]
        parts += [f"w{n}:{fault}" for n, fault in sorted(self.writes.items())]
        parts += [f"r{n}:{fault}" for n, fault in sorted(self.reads.items())]
        parts += [str(self.watching)] if str(self.watching) else []
        parts += [f"kill@{at:g}" for at in self.kills]
        parts += [str(self.freeze)] if self.freeze else []
        parts += [f"twin@{self.twin:g}"] if self.twin is not None else []
        parts += [f"dark={self.dark:g}"] if self.dark else []
        parts += ["jitter"] if self.jitter else []
        return " ".join(parts)

    @property
    def late_writers(self) -> bool:
        """A write may be done by somebody who no longer knows how things stand."""
        return bool(self.freeze or self.twin is not None or "late" in self.writes.values())

    @property
    def calm(self) -> bool:
        """Nothing goes wrong; users and controllers may act at other moments."""
        return str(replace(self, jitter=False)) == f"{self.scenario} seed={self.seed}"

    @property
    def disturbed(self) -> bool:
        """Anything goes wrong at all."""
        return str(self) != f"{self.scenario} seed={self.seed}"


def parse(text: str) -> Schedule:
    """A schedule from its text. Raises ValueError."""
    scenario, *parts = text.split()
    fields: dict[str, object] = {"scenario": scenario}
    writes: dict[int, str] = {}
    reads: dict[int, str] = {}
    kills: list[float] = []
    for part in parts:
        if found := re.fullmatch(r"([wr])(\d+):(\S+)", part):
            faults, allowed = (writes, WRITE_FAULTS) if found[1] == "w" else (reads, READ_FAULTS)
            if found[3] not in allowed:
                raise ValueError(f"{part}: must be one of {', '.join(allowed)}")
            faults[int(found[2])] = found[3]
        elif part.startswith("watch:"):
            pairs = (pair.split("=") for pair in part.removeprefix("watch:").split(","))
            fields["watching"] = Watching(**{name: float(value) for name, value in pairs})
        elif part.startswith("kill@"):
            kills.append(float(part[5:]))
        elif found := re.fullmatch(r"freeze@([\d.]+)\+([\d.]+)", part):
            fields["freeze"] = Freeze(float(found[1]), float(found[2]))
        elif part.startswith("twin@"):
            fields["twin"] = float(part[5:])
        elif found := re.fullmatch(r"(seed|dark)=([\d.]+)", part):
            fields[found[1]] = int(found[2]) if found[1] == "seed" else float(found[2])
        elif part == "jitter":
            fields["jitter"] = True
        else:
            raise ValueError(f"{part!r} is no part of a schedule")
    return Schedule(**fields, writes=writes, reads=reads, kills=tuple(kills))  # type: ignore[arg-type]


def grid(writes: dict[str, int]) -> list[Schedule]:
    """Each write of each scenario's undisturbed run (their number is given), each fault of it."""
    return [
        Schedule(scenario, writes={number: fault})
        for scenario, count in writes.items()
        for number in range(count)
        for fault in WRITE_FAULTS
    ]


def random_schedule(seed: int, writes: dict[str, int]) -> Schedule:
    """Several things at once; the same for the same seed and scenarios."""
    random = Random(seed)
    scenario = random.choice(sorted(writes))
    chance = random.random
    faults: dict[int, str] = {}
    for _ in range(random.choice((0, 0, 1, 1, 2, 3, 5))):
        faults[random.randrange(writes[scenario] + 3)] = random.choice(WRITE_FAULTS)
    reads: dict[int, str] = {}
    for _ in range(random.choice((0, 0, 0, 1, 3))):
        reads[random.randrange(24)] = random.choice(READ_FAULTS)
    watching = Watching(
        lag=random.choice((0.0, 0.0, 0.5, 3.0, 12.0)),
        drop=random.choice((0.0, 0.0, 0.0, 0.1, 0.3)),
        repeat=random.choice((0.0, 0.0, 0.2)),
        merge=random.choice((0.0, 0.0, 0.5)),
        cut=random.choice((0.0, 0.0, 3.0, 10.0)),
    )
    kills = tuple(
        round(random.uniform(0.3, 40), 1) for _ in range(random.choice((0, 0, 0, 1, 1, 3)))
    )
    when, pause = round(random.uniform(0.3, 30), 1), round(random.choice((3, 20, 60, 400)), 1)
    return Schedule(
        scenario,
        seed=seed,
        writes=faults,
        reads=reads,
        watching=watching,
        kills=kills,
        freeze=Freeze(when, pause) if chance() < 0.15 else None,
        twin=when if chance() < 0.15 else None,
        jitter=chance() < 0.5,
        dark=random.choice((0.0, 0.0, 0.0, 10.0, 60.0)),
    )
