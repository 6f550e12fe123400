"""What is left of the training's speed when it is killed again and again.

The share of the time that counts is 1 - (restart + redone) / period: `restart` from the kill to
the first new step, `redone` the steps since the newest checkpoint, half an interval on average.
Both are measured here; a run that is really killed shows that the formula holds.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import ENVIRONMENT, ROOT
from bench.data import Data
from bench.report import Measure, single
from bench.trainer.runs import Place, Setting, fresh_place

#: Seconds between checkpoints of the killed run: `checkpoint.everySeconds`, at its lower bound.
EVERY = 10


def _steps(place: Place, job: str) -> int:
    try:
        history = place.history(job)
    except (OSError, KeyError, ValueError):
        return 0
    return int(history[-1]["step"]) if history else 0


def _train_for(
    place: Place, job: str, config: Path, *, seconds: float, kill_every: float | None
) -> tuple[int, float, int]:
    """Run `job` for about `seconds`, to the end of an epoch; (steps, seconds, kills)."""
    command = place.command(config)
    began = time.monotonic()
    kills, process = 0, None
    started = began
    reached = 0
    reached_at = began
    while True:
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                command, env=ENVIRONMENT, cwd=ROOT,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            started = time.monotonic()
        time.sleep(0.05)
        moment = time.monotonic()
        steps = _steps(place, job)
        if steps > reached:
            reached, reached_at = steps, moment
            if moment - began > seconds:
                process.kill()
                process.wait()
                return reached, reached_at - began, kills
        if kill_every is not None and moment - started > kill_every:
            process.kill()
            process.wait()
            kills += 1


def goodput(
    folder: Path, data: Data, setting: Setting, *, seconds: float, period: float
) -> Iterator[Measure]:
    """Measured at one period, and computed from the measured parts for 2 and 10 minutes."""
    endless = replace(setting, epochs=100_000)
    place = fresh_place(folder, data)
    policy = {"checkpoint": {"everySeconds": EVERY}}
    calm = place.config("calm", endless, **policy)
    steps, took, _ = _train_for(place, "calm", calm, seconds=seconds, kill_every=None)
    # Its own start is no part of the speed.
    record_start = _first_step(place, "calm")
    speed = steps / (took - record_start)
    killed = place.config("killed", endless, **policy)
    done, lasted, kills = _train_for(place, "killed", killed, seconds=seconds, kill_every=period)
    restart = _first_step(place, "killed")
    measured = done / (lasted * speed)
    yield single(f"goodput, killed every {period:.0f} s ({kills} kills)", "", [measured])
    redone = EVERY / 2
    for each, goal in ((120.0, 0.90), (600.0, 0.97), (period, None)):
        share = 1 - (restart + redone) / each
        yield single(
            f"goodput at {each:.0f} s, from its parts", "", [share], goal=goal, better="higher"
        )
    yield single("  kill → first step", "s", [restart])
    yield single("  steps done again", "s", [redone])


def _first_step(place: Place, job: str) -> float:
    """Seconds from the start of the newest process of `job` to its first step."""
    record = json.loads((place.run(job) / "run.json").read_text())
    return float(record["timings"]["firstStep"])
