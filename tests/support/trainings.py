"""Real tiny trainings in the test's own process: the whole of `kubeseg-trainer train`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.report import Reporter
from kubeseg_trainer.engine.signals import STOPPING, StopRequest
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.environment import prepare_environment
from kubeseg_trainer.session import TrainOptions
from kubeseg_trainer.tasks import TaskKind
from kubeseg_trainer.train_command import train
from kubeseg_types.trainer import EpochRecord, RunRecord

# Before torch is imported, as the command line does it.
prepare_environment()

#: The smallest that smp builds: 0.4 million parameters, 25 ms a step at 32 pixels.
MODEL = {"architecture": "Linknet", "encoder": "tu-test_resnet"}


def config_of(job: str = "tiny", **more: Any) -> dict[str, Any]:
    """A `TrainerConfig` document: 2 epochs, batch 2, 32 pixels; mappings in `more` are merged."""
    config: dict[str, Any] = {
        "job": job,
        "uid": "u1",
        "model": MODEL,
        "dataset": {"name": "discs", "testSize": 0.34},
        # The clock that decides on Auto would let two runs differ: test_precision.py has it on.
        "training": {"epochs": 2, "batchSize": 2, "imageSize": 32, "precision": "Float32"},
        # Takes ten times as long as the rest; tests/trainer/test_outputs.py has it on.
        "export": {"onnx": False},
    }
    for key, value in more.items():
        config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    return config


class Place:
    """A workspace with a configuration file, and what trainings leave in it."""

    def __init__(self, folder: Path, *, make: bool = True) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir(parents=True, exist_ok=not make)
        self.config_file = folder / "config.json"
        self.termination_log = folder / "termination-log"
        self.scratch = folder / "scratch"
        self.termination_log.touch()

    def configure(self, config: dict[str, Any]) -> None:
        """Write the configuration, as the kubelet does: another file under the same name."""
        fresh = self.config_file.with_suffix(".new")
        fresh.write_text(json.dumps(config))
        fresh.replace(self.config_file)

    def options(self, *, port: int | None = None) -> TrainOptions:
        """The command line of a start here."""
        return TrainOptions(
            config=self.config_file,
            workspace=self.workspace,
            address="127.0.0.1",
            port=port,
            termination_log=self.termination_log,
            bar=False,
            scratch=self.scratch,
        )

    def train(
        self,
        config: dict[str, Any] | None = None,
        *,
        port: int | None = None,
        kind: TaskKind | None = None,
    ) -> int:
        """Run one start; returns the exit code."""
        if config is not None:
            self.configure(config)
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        stop = StopRequest(STOPPING)
        stop.install()
        try:
            return train(self.options(port=port), stop, kind)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run_folder(self, job: str = "tiny", uid: str = "u1") -> Path:
        """The run's folder."""
        return self.workspace / "runs" / job / uid

    def record(self, job: str = "tiny", uid: str = "u1") -> RunRecord:
        """run.json."""
        return RunRecord.model_validate_json((self.run_folder(job, uid) / "run.json").read_bytes())

    def history(self, job: str = "tiny", uid: str = "u1") -> list[EpochRecord]:
        """The newest metrics.jsonl."""
        file = self.workspace / self.record(job, uid).metrics_file
        return [EpochRecord.model_validate_json(line) for line in file.read_text().splitlines()]

    def weights(self, epoch: int, job: str = "tiny", uid: str = "u1") -> Path:
        """The weights file of an epoch."""
        weights = self.history(job, uid)[epoch - 1].weights
        assert weights is not None
        return self.workspace / weights.path

    def message(self) -> dict[str, Any]:
        """The termination message."""
        result: dict[str, Any] = json.loads(self.termination_log.read_text())
        return result


@contextmanager
def at_beat(number: int, do: Any) -> Iterator[None]:
    """Call `do` at the `number`-th sign of life of the training (each pair looked at, each part of
    a step, each validation batch is one).
    """
    count = 0
    real = Watchdog.beat

    def beat(self: Watchdog) -> None:
        nonlocal count
        real(self)
        count += 1
        if count == number:
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watchdog, "beat", beat)
        yield


@contextmanager
def in_training(number: int, do: Any) -> Iterator[None]:
    """Call `do` at the `number`-th sign of life after the first epoch has begun: whatever the look
    at the data, the cache or a trial of precisions took before.
    """
    real = Board.update
    begun = False

    def update(self: Board, **fields: Any) -> None:
        nonlocal begun
        real(self, **fields)
        if fields.get("state") == "Training" and not begun:
            begun = True
            stack.enter_context(at_beat(number, do))

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Board, "update", update)
        yield


@contextmanager
def after_epoch(number: int, do: Any) -> Iterator[None]:
    """Call `do` when the line of epoch `number` is shown, before the next epoch's first step."""
    real = Reporter.line

    def line(self: Reporter, text: str) -> None:
        real(self, text)
        if text.startswith(f"epoch {number}/"):
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, "line", line)
        yield


def terminate() -> None:
    """What the kubelet does."""
    os.kill(os.getpid(), signal.SIGTERM)
