"""The pictures of each epoch: written beside the run's records, thinned as it grows."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from kubeseg_trainer.engine.decisions import best_of
from kubeseg_trainer.engine.task import Task
from kubeseg_trainer.files import TEMPORARY
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types import workspace
from kubeseg_types.trainer import EpochRecord

log = logging.getLogger(__name__)

#: Epochs whose pictures are kept, evenly spread; beside them the first, the best and the newest.
EVENLY = 32


def kept_pictures(newest: int, best: int) -> set[int]:
    """Epochs up to `newest` whose pictures stay.

    Every epoch's at first, then those of every second, fourth and so on, at most `EVENLY`: what a
    later call keeps of older epochs, an earlier one has kept too.
    """
    stride = 1
    while newest // stride > EVENLY:
        stride *= 2
    return {1, best, newest, *range(stride, newest + 1, stride)}


def _eagerly() -> AbstractContextManager[Any]:
    """No compiling anew for a few pictures of another batch size."""
    # Its import takes seconds; before it, nothing has been compiled.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


class PictureBook:
    """The folder samples/ of a run. What can't be written there is a warning, never the end."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._warned = False
        #: Folder of the newest pictures, relative to the workspace; None where there are none.
        self.newest: str | None = None

    def draw(
        self,
        task: Task,
        epoch: int,
        *,
        count: int,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """Draw `count` pictures with the task's network as it is, and keep them as `epoch`'s."""
        self.newest = None
        if count == 0:
            return
        task.network.eval()
        with torch.inference_mode(), precision(), _eagerly():
            files = task.draw(count, epoch)
        task.network.train()
        if files:
            self._write(epoch, files)

    def _write(self, epoch: int, files: Mapping[str, bytes]) -> None:
        target = self._run.base / workspace.samples_dir(epoch)
        fresh = target.parent / f"{TEMPORARY}{os.getpid()}-{target.name}"
        try:
            fresh.mkdir(parents=True)
            for name, data in files.items():
                (fresh / name).write_bytes(data)
            # An epoch that is done again, after a break.
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if not self._warned:
                log.warning(
                    "the pictures of epoch %d can't be written to %s: %s; the training goes on "
                    "without them",
                    epoch,
                    target,
                    error.strerror or error,
                )
            self._warned = True
        else:
            self.newest = self._run.relative(target)

    def thin(self, history: Sequence[EpochRecord]) -> None:
        """Remove the pictures of epochs that are not kept, or that this history has not reached."""
        best = best_of(history)
        if best is None:
            return
        kept = {
            self._run.base / workspace.samples_dir(epoch)
            for epoch in kept_pictures(len(history), best.epoch)
        }
        folder = self._run.base / workspace.SAMPLES
        for path in folder.iterdir() if folder.is_dir() else ():
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
