"""Throughput and quality against the plain script: same data, network, epochs, batch and size."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.data import Data
from bench.report import Measure, compare
from bench.trainer.runs import Setting, fresh_place, ours, plain

#: Loader processes that the plain script is tried with; the faster of each pair is the twin.
PLAIN_WORKERS = (0, 2)


def _speed(epochs: list[dict[str, Any]], images: str, seconds: str) -> float:
    """Images a second over the training passes, from the second epoch on.

    The first one warms up caches and allocators, for both.
    """
    later = epochs[1:] or epochs
    return sum(float(e[images]) for e in later) / sum(float(e[seconds]) for e in later)


def throughput(
    folder: Path, data: Data, setting: Setting, *, repeats: int, name: str, goal: float
) -> Iterator[Measure]:
    """Images a second in training, waiting for data included."""
    mine, twins = [], []
    for number in range(repeats):
        seeded = replace(setting, seed=number)
        place = fresh_place(folder, data)
        history = ours(place, "speed", seeded)
        flat = [{"n": e["train"]["samples"], "s": e["seconds"]} for e in history]
        mine.append(_speed(flat, "n", "s"))
        twins.append(
            max(_speed(plain(data, seeded, workers=w), "images", "seconds") for w in PLAIN_WORKERS)
        )
    yield compare(name, "images/s", mine, twins, goal=goal)


def quality(folder: Path, data: Data, setting: Setting, *, seeds: int) -> Iterator[Measure]:
    """Best validation IoU over the epochs, mean over the seeds; default settings."""
    mine, twins = [], []
    for seed in range(seeds):
        seeded = replace(setting, seed=seed)
        place = fresh_place(folder, data)
        mine.append(max(e["validation"]["iou"] for e in ours(place, "quality", seeded)))
        twins.append(max(e["iou"] for e in plain(data, seeded, workers=PLAIN_WORKERS[-1])))
    means = [statistics.mean(mine)], [statistics.mean(twins)]
    whole = compare("validation mIoU", "IoU", *means, goal=1.0)
    ratios = [a / b for a, b in zip(mine, twins, strict=True)]
    yield replace(whole, min=round(min(ratios), 4), max=round(max(ratios), 4))
