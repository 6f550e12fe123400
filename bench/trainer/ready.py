"""Real data against ready-made tensors, in the very same loop.

As a program (`python -m bench.trainer.ready KIND ARGUMENTS…`) it is the trainer's command line;
with the kind "ready" every training sample is made once and handed out again from memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import ENVIRONMENT, ROOT
from bench.data import Data
from bench.report import Measure, compare
from bench.trainer.runs import Place, Setting, fresh_place

GOAL = 0.95


class ReadyMade:
    """Samples made once: a key's epoch no longer matters."""

    alike = True

    def __init__(self, samples: Any) -> None:
        from kubeseg_trainer.engine.task import SampleKey

        self.names: Sequence[str] = samples.names
        self._made = [samples[SampleKey(1, index)] for index in range(len(samples))]

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, key: Any) -> Any:
        return self._made[key.sample]


def _speed(place: Place, job: str, setting: Setting, kind: str) -> float:
    config = place.config(job, setting)
    command = [sys.executable, "-m", "bench.trainer.ready", kind, *place.command(config)[3:]]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stdout[-3000:] + done.stderr
        raise SystemExit(f"{kind} ended with {done.returncode}:\n{said}")
    later = place.history(job)[1:]
    samples = sum(int(epoch["train"]["samples"]) for epoch in later)
    return samples / sum(float(epoch["seconds"]) for epoch in later)


def ready(folder: Path, data: Data, setting: Setting, *, repeats: int) -> Iterator[Measure]:
    """Images a second in training from the second epoch on, all features on."""
    place = fresh_place(folder, data)
    mine, twins = [], []
    for number in range(repeats):
        seeded = replace(setting, seed=number)
        mine.append(_speed(place, f"real-{number}", seeded, "real"))
        twins.append(_speed(place, f"ready-{number}", seeded, "ready"))
    yield compare("real data beside ready tensors", "images/s", mine, twins, goal=GOAL)


def main() -> int:
    """The trainer's command line."""
    from kubeseg_trainer import cli
    from kubeseg_trainer.tasks.segmentation.task import SegmentationTask

    if sys.argv[1] == "ready":
        decode_ahead = SegmentationTask.decode_ahead

        def made_ready(task: Any, *arguments: Any, **more: Any) -> None:
            decode_ahead(task, *arguments, **more)
            task.train = ReadyMade(task.train)

        setattr(SegmentationTask, "decode_ahead", made_ready)  # noqa: B010 - mypy minds the other
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
