"""What a training writes as it goes: weights of epochs, checkpoints, metrics.jsonl."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kubeseg_trainer.engine import checkpoint
from kubeseg_trainer.engine.decisions import kept_weights, ranked, surplus
from kubeseg_trainer.engine.lookout import Lookout
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.task import Task
from kubeseg_trainer.engine.tensor_file import size_of, tensor_file
from kubeseg_trainer.errors import StorageError
from kubeseg_trainer.files import append_line, leftovers, remove, sha256_of, write_file
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types import workspace
from kubeseg_types.status import CheckpointPointer
from kubeseg_types.trainer import EpochRecord, WeightsFile
from kubeseg_types.training import CheckpointPolicy

log = logging.getLogger(__name__)


def tensors_of(network: nn.Module, stepper: dict[str, Tensor], state: State) -> dict[str, Tensor]:
    """Everything that is a tensor, by name; `stepper`: its `state_tensors`."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= stepper
    tensors |= {f"sums/{name}": value for name, value in state.sums._asdict().items()}
    return tensors


class Store:
    """The files of one start of a run."""

    def __init__(self, run: RunDirectory, task: Task) -> None:
        self.run = run
        self._task = task
        self._lookout = Lookout(run)
        #: Checkpoints that are newer than the one gone on from, and damaged therefore.
        self._damaged: frozenset[Path] = frozenset()

    def look(self) -> None:
        """SupersededError where a newer start of this run is there; looks every few seconds."""
        self._lookout.check()

    def start_history(self, history: Sequence[EpochRecord], source: Path | None) -> None:
        """Begin metrics.jsonl with the history of the checkpoint `source` (None: there is none)
        that this start goes on from, and tidy up: what older starts left half written, or wrote
        after that point, is removed.
        """
        text = "".join(_line(record) + "\n" for record in history)
        write_file(self.run.metrics_file, text.encode())
        found = checkpoint.checkpoints_of(self.run.own_attempts())
        self._damaged = frozenset(found[: found.index(source)] if source in found else found)
        named = {record.weights.path for record in history if record.weights}
        doomed = leftovers(self.run.base)
        for folder in self.run.own_attempts():
            if folder == self.run.folder:
                continue
            doomed += leftovers(folder)
            doomed += [
                file
                for file in (folder / workspace.EPOCHS).glob("*.safetensors")
                if self.run.relative(file) not in named
            ]
        self._remove(doomed)

    def save_weights(self, tensors: Mapping[str, Tensor], epoch: int) -> WeightsFile:
        """Write the weights of `epoch`, and read them back."""
        path = self.run.folder / workspace.epoch_file(epoch)
        parts = tensor_file(tensors, self._task.metadata(epoch))
        written = write_file(path, parts, size=size_of(tensors), read_back=True, between=self.look)
        return WeightsFile(path=self.run.relative(path), sha256=written.sha256, bytes=written.bytes)

    def append(self, record: EpochRecord) -> None:
        """Add an epoch to metrics.jsonl."""
        append_line(self.run.metrics_file, _line(record))

    def checkpoint_path(self, epoch: int, step: int) -> Path:
        """Where this start's checkpoint of a position lies."""
        name = checkpoint.checkpoint_name(epoch, step)
        return self.run.folder / workspace.CHECKPOINTS / name

    def save_checkpoint(
        self, tensors: Mapping[str, Tensor], document: dict[str, Any]
    ) -> CheckpointPointer:
        """Write a checkpoint, and read it back."""
        epoch, step = len(document["history"]), document["step"]
        path = self.checkpoint_path(epoch, step)
        # There only where an earlier try got as far as the last sync.
        remove(path)
        time = checkpoint.write_checkpoint(path, tensors, document, between=self.look)
        return CheckpointPointer(epoch=epoch, step=step, time=time)

    def tidy(self, history: Sequence[EpochRecord], policy: CheckpointPolicy) -> None:
        """Remove the checkpoints that are too old, and the weights that neither this history nor
        that of a checkpoint which stays asks for.
        """
        found = checkpoint.checkpoints_of(self.run.own_attempts())
        good = set(found) - self._damaged
        stay, doomed = surplus(found, good, policy.keep_last)
        positions = (checkpoint.parse_name(path.name) for path in stay)
        kept = kept_weights(history, (p[0] for p in positions if p is not None), policy)
        doomed += [
            self.run.workspace / record.weights.path
            for record in history
            if record.epoch not in kept and record.weights is not None
        ]
        self._remove(doomed)

    def _remove(self, listed: Sequence[Path]) -> None:
        """Remove what was listed before, unless a newer start is there: it may go on from it."""
        if not listed:
            return
        self._lookout.look()
        for path in listed:
            try:
                remove(path)
            except OSError as error:
                log.warning("%s could not be removed: %s", path, error.strerror)

    def best_weights(self, history: Sequence[EpochRecord]) -> EpochRecord:
        """The best epoch whose weights are there and whole; StorageError where none are."""
        for record in ranked(history):
            weights = record.weights
            if weights is None:
                continue
            path = self.run.workspace / weights.path
            if path.is_file() and sha256_of(path) == weights.sha256:
                return record
        raise StorageError(
            f"no epoch's weights are left in {self.run.base}: they were removed or damaged"
        )


def _line(record: EpochRecord) -> str:
    return record.model_dump_json(by_alias=True)
