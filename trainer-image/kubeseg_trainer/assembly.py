"""Putting a training together: the first module here that imports torch."""

from __future__ import annotations

import multiprocessing

import torch

from kubeseg_trainer.config import ConfigSource
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.hardware import (
    choose_device,
    loader_workers,
    set_threads,
    wants_bfloat16,
)
from kubeseg_trainer.engine.loop import Loop, Surroundings
from kubeseg_trainer.engine.report import Reporter
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.store import Store
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_trainer.tasks.segmentation.network import build_network, padded_side
from kubeseg_trainer.tasks.segmentation.scan import Checked
from kubeseg_trainer.tasks.segmentation.task import SegmentationTask
from kubeseg_types.trainer import TrainerConfig


def refuse_early(config: TrainerConfig) -> None:
    """ConfigurationError where the network can't be built or can't take the image size."""
    # Which classes there are doesn't matter for it.
    padded_side(build_network(config.model, 2), config.training.image_size, config.model)


def assemble(
    checked: Checked,
    *,
    source: ConfigSource,
    run: RunDirectory,
    board: Board,
    reporter: Reporter,
    stop: StopRequest,
    watchdog: Watchdog,
) -> Loop:
    """The loop over this data set, at its beginning."""
    config = source.config
    set_threads()
    device = choose_device()
    bfloat16 = wants_bfloat16(config.training, device)
    if device.type == "cuda":
        # Sizes don't change from step to step: the fastest convolution is worth looking for.
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    workers = loader_workers(device)
    if workers:
        # Imported once, in the process that the workers are forked from, while we go on here.
        multiprocessing.set_forkserver_preload(["kubeseg_trainer.tasks.segmentation.samples"])
    task = SegmentationTask(config, checked, device)
    stop.check()
    watchdog.beat()
    around = Surroundings(
        source=source,
        store=Store(run, task),
        board=board,
        reporter=reporter,
        stop=stop,
        watchdog=watchdog,
        device=device,
        workers=workers,
        bfloat16=bfloat16,
    )
    return Loop(task, around)
