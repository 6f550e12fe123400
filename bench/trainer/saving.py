"""How long the loop stands still for a checkpoint."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from bench.report import Measure, compare

GOAL = 0.1


def saving(folder: Path, *, repeats: int) -> Iterator[Measure]:
    """Copying weights and moments of Unet-resnet34 beside writing them while the loop waits.

    The first copy, whose buffers are made then, is left out; a start pays for it once.
    """
    import segmentation_models_pytorch as smp
    import torch

    from kubeseg_trainer.engine.checkpoint import write_checkpoint
    from kubeseg_trainer.engine.snapshot import Snapshot

    weights = smp.Unet("resnet34", encoder_weights=None).state_dict()
    tensors = {
        f"{part}/{name}": torch.rand_like(value) if value.is_floating_point() else value
        for part in ("network", "exp_avg", "exp_avg_sq")
        for name, value in weights.items()
    }
    snapshot = Snapshot()
    taken = snapshot.take(tensors)
    mine, twins = [], []
    for number in range(repeats):
        began = time.perf_counter()
        taken = snapshot.take(tensors)
        snapshot.ready()
        mine.append(time.perf_counter() - began)
        path = folder / f"{number + 1:05d}-{number + 1:08d}"
        began = time.perf_counter()
        write_checkpoint(path, taken, {"step": number})
        twins.append(time.perf_counter() - began)
        shutil.rmtree(path)
    yield compare("standing still for a checkpoint", "s", mine, twins, goal=GOAL, better="lower")
