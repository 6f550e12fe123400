"""Saving behind the training's back: what is copied while it stands still, what is written then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.decisions import best_of
from kubeseg_trainer.engine.snapshot import Snapshot
from kubeseg_trainer.engine.state import State, document_of
from kubeseg_trainer.engine.store import Store
from kubeseg_trainer.engine.writer import Writer
from kubeseg_trainer.errors import StorageError, SupersededError
from kubeseg_types.status import CheckpointPointer
from kubeseg_types.trainer import EpochRecord
from kubeseg_types.training import CheckpointPolicy

log = logging.getLogger(__name__)

_WEIGHTS = "weights/"


def _nothing() -> None:
    """What is done once an epoch's records are there unless someone asks for more."""


class Saver:
    """Writes epochs and checkpoints while the training goes on: one at a time, in order.

    An epoch counts once its weights are on the volume: then come, in this order, its line in
    metrics.jsonl, its values on the board, `on_epoch`, its checkpoint, and only then are older
    files removed. So nobody reads of a file that is not there whole.
    """

    def __init__(self, store: Store, board: Board) -> None:
        self._store = store
        self._board = board
        self._snapshot = Snapshot()
        self._writer = Writer()
        #: The epoch that is being written or was written last, with its weights file.
        self._recorded: EpochRecord | None = None
        #: Whether an epoch's records are in the work under way: those can't be done without.
        self._record_pending = False
        #: The newest checkpoint that counts.
        self.checkpoint: CheckpointPointer | None = None
        #: Called in the writer's thread when an epoch counts: for files, not for tensors.
        self.on_epoch: Callable[[], None] = _nothing
        #: Seconds that the training has stood still for saving.
        self.stood_still = 0.0
        #: Of these, for the newest.
        self._still = 0.0

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._writer.busy

    def epoch(
        self,
        state: State,
        *,
        weights: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor] | None,
        identity: dict[str, Any],
        policy: CheckpointPolicy,
        told: dict[str, Any],
    ) -> None:
        """Save the epoch that `state.history` ends with: its `weights`, its line, a checkpoint of
        `tensors` (None: none is due). `told` goes to the board when the epoch counts.

        Waits for what is being written. StorageError where that failed for good.
        """
        began = time.monotonic()
        self._settle(state)
        taken = self._take(weights, tensors)
        history = list(state.history)
        record = history[-1]
        document = document_of(state, (), identity)

        def write_weights() -> None:
            self._snapshot.ready()
            mine = {
                name.removeprefix(_WEIGHTS): value
                for name, value in taken.items()
                if name.startswith(_WEIGHTS)
            }
            history[-1] = self._recorded = record.model_copy(
                update={"weights": self._store.save_weights(mine, record.epoch)}
            )

        def write_line() -> None:
            self._store.append(history[-1])

        def tell() -> None:
            self._record_pending = False
            self._board.update(
                notify=True, epoch=record.epoch, last=history[-1], best=best_of(history), **told
            )

        def write_checkpoint() -> None:
            document["history"] = [one.to_dict() for one in history]
            self._write_checkpoint(taken, document)

        def tidy() -> None:
            self._store.tidy(history, policy)

        self._record_pending = True
        steps = [write_weights, write_line, tell, self.on_epoch]
        self._writer.start([*steps, write_checkpoint, tidy] if tensors else [*steps, tidy])
        self._count(time.monotonic() - began)

    def within_epoch(
        self,
        state: State,
        *,
        weights: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
        identity: dict[str, Any],
        policy: CheckpointPolicy,
    ) -> None:
        """Save a checkpoint of `state`, unless there is one.

        Waits for what is being written. StorageError where that failed for good.
        """
        began = time.monotonic()
        self._settle(state)
        if not self._store.checkpoint_path(state.epoch, state.step).is_dir():
            taken = self._take(weights, tensors)
            history = list(state.history)
            document = document_of(state, history, identity)

            def write_checkpoint() -> None:
                self._snapshot.ready()
                self._write_checkpoint(taken, document)

            def tidy() -> None:
                self._store.tidy(history, policy)

            self._writer.start([write_checkpoint, tidy])
        self._count(time.monotonic() - began)

    def finish(self, state: State) -> None:
        """Wait until all is written. StorageError where it can't be."""
        self._writer.wait()
        self._merge(state)

    def finish_after(self, error: BaseException) -> None:
        """Wait until all is written that can be, as `error` ends the training."""
        if isinstance(error, SupersededError):
            # The writer sees the newer start as well; nobody needs what it writes.
            return
        try:
            self._writer.wait()
        except (StorageError, SupersededError) as another:
            log.warning("%s", another)

    def _count(self, still: float) -> None:
        self._still = still
        self.stood_still += still

    def _take(
        self, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        # Always with the weights, which a checkpoint mostly holds too: the same buffers each time.
        named = {f"{_WEIGHTS}{name}": value for name, value in weights.items()}
        return self._snapshot.take(named | dict(tensors or {}))

    def _write_checkpoint(self, taken: Mapping[str, Tensor], document: dict[str, Any]) -> None:
        tensors = {name: value for name, value in taken.items() if not name.startswith(_WEIGHTS)}
        self.checkpoint = self._store.save_checkpoint(tensors, document)
        self._board.update(
            notify=True,
            checkpoint=self.checkpoint,
            checkpoint_seconds=round(self._still, 3),
        )

    def _settle(self, state: State) -> None:
        """Wait for the work under way. A checkpoint that can't be written is given up for the
        newer one that is about to be; an epoch's records are not.
        """
        try:
            self._writer.wait()
        except StorageError as error:
            if self._record_pending:
                raise
            log.warning("%s. A newer checkpoint takes its place", error)
        self._merge(state)

    def _merge(self, state: State) -> None:
        """Let the history name the weights file that has been written."""
        if self._recorded is not None:
            state.history[self._recorded.epoch - 1] = self._recorded
            self._recorded = None
