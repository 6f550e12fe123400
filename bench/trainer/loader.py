"""The loader alone: what the decoded cache gains over decoding in each epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.data import Data
from bench.report import Measure, compare
from bench.trainer.runs import Setting, fresh_place

GOAL = 4.0


def loader(folder: Path, data: Data, setting: Setting, *, repeats: int) -> Iterator[Measure]:
    """Images a second from the second epoch on, augmentation and stacking included."""
    import torch

    from kubeseg_trainer.config import read_config
    from kubeseg_trainer.engine.loading import Loader, epoch_order
    from kubeseg_trainer.engine.task import SampleKey
    from kubeseg_trainer.tasks.segmentation.check.scan import Purpose, check_data_set
    from kubeseg_trainer.tasks.segmentation.task import SegmentationTask

    place = fresh_place(folder, data)
    config = read_config(place.config("loader", setting))
    checked = check_data_set(
        place.workspace, config.dataset, Purpose.of(config), progress=lambda *_: None
    )
    cached, decoding = (SegmentationTask(config, checked, torch.device("cpu")) for _ in range(2))
    cached.decode_ahead(place.scratch, progress=lambda *_: None, check=lambda: None)

    def speed(task: SegmentationTask, epoch: int) -> float:
        order = epoch_order(len(task.train), seed=setting.seed, epoch=epoch)
        keys = [
            [SampleKey(epoch, index) for index in order[start : start + setting.batch]]
            for start in range(0, len(order), setting.batch)
        ]
        batches = Loader((task.train,), workers=0, pin=False)
        began = time.perf_counter()
        count = sum(len(batch["mask"]) for batch in batches.batches(0, keys))
        return count / (time.perf_counter() - began)

    mine, twins = [], []
    for task in (cached, decoding):
        speed(task, 1)
    for epoch in range(2, repeats + 2):
        mine.append(speed(cached, epoch))
        twins.append(speed(decoding, epoch))
    yield compare(f"loader at {setting.side} px", "images/s", mine, twins, goal=GOAL)
