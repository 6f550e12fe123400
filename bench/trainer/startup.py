"""From the start of the process to the first optimizer step, the data being cached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.data import Data
from bench.report import Measure, single
from bench.trainer.runs import Setting, fresh_place, ours

GOAL = 10.0


def startup(folder: Path, data: Data, setting: Setting, *, repeats: int) -> Iterator[Measure]:
    """The time by the trainer's own clock, which starts with the process, and where it goes."""
    place = fresh_place(folder, data)
    # Fills the cache and keeps the report of the check.
    ours(place, "first", replace(setting, epochs=1))
    times: list[dict[str, float]] = []
    for number in range(repeats):
        job = f"start-{number}"
        ours(place, job, replace(setting, epochs=1))
        record = json.loads((place.run(job) / "run.json").read_text())
        times.append(record["timings"])
    yield single(
        "start → first step", "s", [each["firstStep"] for each in times], goal=GOAL, better="lower"
    )
    names = [name for name, at in sorted(times[0].items(), key=lambda e: e[1])]
    before = [n for n in names if times[0][n] <= times[0]["firstStep"]]
    for earlier, name in zip([None, *before], before, strict=False):
        spans = [each[name] - (each[earlier] if earlier else 0.0) for each in times]
        yield single(f"  until {name}", "s", spans)
