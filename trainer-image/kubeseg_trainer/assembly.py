"""Putting a training together: the first module here that imports torch."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeseg_trainer.config import ConfigSource
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.checkpoint import any_whole
from kubeseg_trainer.engine.group import Group
from kubeseg_trainer.engine.hardware import (
    choose_device,
    loader_workers,
    set_reproducible,
    set_threads,
    shares_gpu,
)
from kubeseg_trainer.engine.loggers.start import start_loggers
from kubeseg_trainer.engine.loop import Loop
from kubeseg_trainer.engine.precision import asked_for
from kubeseg_trainer.engine.report import Reporter
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.store import Store
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import Task
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.milestones import Milestones
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_trainer.tasks import TaskKind
from kubeseg_types.trainer import TrainerConfig


def refuse_early(
    kind: TaskKind,
    config: TrainerConfig,
    run: RunDirectory,
    group: Group,
    beat: Callable[[], None],
) -> None:
    """ConfigurationError where the training can't be what is asked for, whatever the data, or the
    weights it is to begin with can't be had. `beat` is called while it waits for a hub.
    """
    kind.refuse_early(config)
    _refuse_idle_ranks(config, group)
    asked_for(config.training, choose_device(group.local_rank))
    if group.leads and _begins(config, run):
        kind.find_beginning(run.workspace, config, beat)


def _refuse_idle_ranks(config: TrainerConfig, group: Group) -> None:
    """ConfigurationError where a whole batch has no sample for some rank."""
    if config.training.batch_size < group.size:
        raise ConfigurationError(
            f"spec.training.batchSize: must be at least {group.size}, the number of processes "
            f"that share a batch, not {config.training.batch_size}"
        )


def _refuse_other_data(task: Task, group: Group) -> None:
    """DatasetError where this rank sees other data than rank 0: it would train on a mixture."""
    fingerprint, names = group.share([task.fingerprint, list(task.class_names)])
    if fingerprint != task.fingerprint or names != list(task.class_names):
        raise DatasetError(
            f"rank {group.rank} sees another data set than rank 0: all pods must have the same "
            f"workspace, and nothing in it may change while they start"
        )


def _begins(config: TrainerConfig, run: RunDirectory) -> bool:
    """Whether weights are asked for, and no checkpoint of the run stands in their place."""
    asked = config.init_from is not None or config.model.encoder_weights is not None
    return asked and not any_whole(run.own_attempts())


def assemble(
    examined: Any,
    kind: TaskKind,
    *,
    group: Group,
    source: ConfigSource,
    run: RunDirectory,
    board: Board,
    reporter: Reporter,
    stop: StopRequest,
    watchdog: Watchdog,
    milestones: Milestones,
    scratch: Path | None,
) -> Loop:
    """The loop over what `kind` examined, at its beginning; `scratch`: a folder on this node, if
    named.
    """
    config = source.config
    _refuse_idle_ranks(config, group)
    set_threads(group.local_size)
    device = choose_device(group.local_rank)
    set_reproducible(config.training, device)
    asked_for(config.training, device)
    group.attach(device, own=not shares_gpu(device, group.local_size))
    workers = loader_workers(device, group.local_size)
    if workers:
        # Imported once, in the process that the workers are forked from, while we go on here.
        multiprocessing.set_forkserver_preload(list(kind.loader_modules))
    task = kind.build(examined, config, device)
    _refuse_other_data(task, group)

    def beat() -> None:
        stop.check()
        watchdog.beat()

    beat()
    # The others get rank 0's weights.
    if group.leads and _begins(config, run):
        kind.begin(task, kind.find_beginning(run.workspace, config, beat), config)
        beat()

    def progress(text: str, done: int, total: int) -> None:
        beat()
        reporter.step(text, done, total)

    kind.decode_ahead(task, scratch, progress=progress, check=stop.check)
    around = Surroundings(
        source=source,
        store=Store(run, task),
        board=board,
        reporter=reporter,
        stop=stop,
        watchdog=watchdog,
        group=group,
        device=device,
        workers=workers,
        loggers=start_loggers(config, run, task.class_names) if group.leads else (),
        milestones=milestones,
    )
    return Loop(task, around)
