"""What a training works with, beside its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from kubeseg_trainer.config import ConfigSource
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.group import Group
from kubeseg_trainer.engine.loggers.logger import EpochLogger
from kubeseg_trainer.engine.report import Reporter
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.store import Store
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.milestones import Milestones


@dataclass
class Surroundings:
    """The process, the machine and the folder around a loop."""

    source: ConfigSource
    store: Store
    board: Board
    reporter: Reporter
    stop: StopRequest
    watchdog: Watchdog
    group: Group
    device: torch.device
    #: Loader processes.
    workers: int
    #: Who else hears of each epoch.
    loggers: Sequence[EpochLogger] = ()
    milestones: Milestones = field(default_factory=Milestones)
