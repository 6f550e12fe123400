"""What a training writes: weights of epochs, checkpoints, metrics.jsonl, the exported model."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from kubeseg_trainer.engine import checkpoint
from kubeseg_trainer.engine.decisions import kept_epochs, ranked
from kubeseg_trainer.engine.optimizer import optimizer_state
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.task import Task
from kubeseg_trainer.errors import StorageError, storage_error
from kubeseg_trainer.files import (
    TEMPORARY,
    append_line,
    remove_leftovers,
    sync_directory,
    write_file,
)
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types import workspace
from kubeseg_types.status import CheckpointPointer
from kubeseg_types.trainer import EpochRecord, WeightsFile
from kubeseg_types.training import CheckpointPolicy


def tensors_of(network: nn.Module, optimizer: Any, state: State) -> dict[str, Tensor]:
    """Everything that is a tensor, by name."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    for name, value in optimizer_state(network, optimizer).items():
        tensors[f"optimizer/{name}"] = value
    tensors |= {f"sums/{name}": value for name, value in state.sums._asdict().items()}
    return tensors


class Store:
    """The files of one start of a run."""

    def __init__(self, run: RunDirectory, task: Task) -> None:
        self.run = run
        self._task = task
        #: History of the newest checkpoint: the weights that it names must outlive it.
        self._checkpointed: list[EpochRecord] = []

    def start_history(self, history: Sequence[EpochRecord]) -> None:
        """Begin metrics.jsonl with the history that this start goes on from, and tidy up.

        What older starts left half written, or wrote after that point, is removed.
        """
        text = "".join(_line(record) + "\n" for record in history)
        write_file(self.run.metrics_file, text.encode())
        self._checkpointed = list(history)
        named = {record.weights.path for record in history if record.weights}
        for folder in self.run.attempts():
            number = workspace.parse_attempt_name(folder.name)
            if number is None or number >= (self.run.attempt, self.run.start):
                continue
            remove_leftovers(folder)
            for file in (folder / workspace.EPOCHS).glob("*.safetensors"):
                if self.run.relative(file) not in named:
                    file.unlink(missing_ok=True)
        remove_leftovers(self.run.base)

    def save_weights(self, network: nn.Module, epoch: int) -> WeightsFile:
        """Write the weights of `epoch`."""
        tensors = {
            name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
        }
        data = save(tensors, metadata=self._task.metadata(epoch))
        path = self.run.folder / workspace.epoch_file(epoch)
        digest = write_file(path, data)
        return WeightsFile(path=self.run.relative(path), sha256=digest, bytes=len(data))

    def append(self, record: EpochRecord) -> None:
        """Add an epoch to metrics.jsonl."""
        append_line(self.run.metrics_file, _line(record))

    def save_checkpoint(
        self,
        network: nn.Module,
        optimizer: Any,
        state: State,
        *,
        identity: dict[str, Any],
        policy: CheckpointPolicy,
    ) -> CheckpointPointer:
        """Write a checkpoint of `state`, unless it is there, and remove what is too old."""
        name = checkpoint.checkpoint_name(state.epoch, state.step)
        path = self.run.folder / workspace.CHECKPOINTS / name
        document = {
            "step": state.step,
            "position": state.position,
            "seconds": state.seconds,
            "learningRate": state.learning_rate,
            "generation": state.generation,
            "history": [record.to_dict() for record in state.history],
            **identity,
        }
        time = checkpoint.write_checkpoint(path, tensors_of(network, optimizer, state), document)
        self._checkpointed = list(state.history)
        checkpoint.keep_newest(self.run.attempts(), policy.keep_last)
        return CheckpointPointer(epoch=state.epoch, step=state.step, time=time)

    def has_checkpoint(self, state: State) -> bool:
        """Whether this start has written a checkpoint of exactly this position."""
        name = checkpoint.checkpoint_name(state.epoch, state.step)
        return (self.run.folder / workspace.CHECKPOINTS / name).is_dir()

    def retain(self, history: Sequence[EpochRecord], policy: CheckpointPolicy) -> None:
        """Remove weights that neither this history nor the newest checkpoint's asks for."""
        kept = kept_epochs(history, policy) | kept_epochs(self._checkpointed, policy)
        for record in history:
            if record.epoch not in kept and record.weights is not None:
                (self.run.workspace / record.weights.path).unlink(missing_ok=True)

    def best_weights(self, history: Sequence[EpochRecord]) -> EpochRecord:
        """The best epoch whose weights are there and whole; StorageError where none are."""
        for record in ranked(history):
            weights = record.weights
            if weights is not None and checkpoint.verify_file(
                self.run.workspace / weights.path, weights.sha256
            ):
                return record
        raise StorageError(
            f"no epoch's weights are left in {self.run.base}: they were removed or damaged"
        )

    def export(self, history: Sequence[EpochRecord]) -> tuple[EpochRecord, WeightsFile]:
        """Make the model folder from the best epoch; returns it and its weights file."""
        best = self.best_weights(history)
        assert best.weights is not None
        target = self.run.model_folder
        fresh = target.parent / f"{TEMPORARY}{os.getpid()}-{target.name}"
        old = target.parent / f"{TEMPORARY}{os.getpid()}-old-{target.name}"
        try:
            fresh.mkdir()
            self._task.export(fresh, self.run.workspace / best.weights.path, best)
            for file in fresh.iterdir():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            sync_directory(fresh)
            if target.exists():
                target.rename(old)
            fresh.rename(target)
            sync_directory(target.parent)
        except OSError as error:
            raise storage_error(error, target) from error
        finally:
            for leftover in (fresh, old):
                shutil.rmtree(leftover, ignore_errors=True)
        file = target / "model.safetensors"
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return best, WeightsFile(path=self.run.relative(file), sha256=digest, bytes=len(data))


def _line(record: EpochRecord) -> str:
    return record.model_dump_json(by_alias=True)


def newest_checkpoint(folders: Sequence[Path]) -> checkpoint.Checkpoint | None:
    """The newest checkpoint of these attempts that is whole."""
    return next(checkpoint.usable(folders), None)
