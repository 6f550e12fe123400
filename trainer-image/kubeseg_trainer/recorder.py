"""Keeps `run.json` true while a run goes on."""

from __future__ import annotations

from kubeseg_trainer.config import ConfigSource
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.group import Group
from kubeseg_trainer.files import now
from kubeseg_trainer.milestones import Milestones
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types.trainer import RunRecord, TrainerConfig


class Recorder:
    """The record of a run: what earlier starts left, and what this one adds."""

    def __init__(
        self,
        run: RunDirectory,
        group: Group,
        source: ConfigSource,
        board: Board,
        milestones: Milestones,
    ) -> None:
        self._run, self._group, self._source = run, group, source
        self._board, self._milestones = board, milestones
        self.record = _first(run, source.config)

    def keep(self, **fields: object) -> None:
        """Set `fields`, for the next `write`."""
        self.record = self.record.model_copy(update=fields)

    def write(self, **fields: object) -> None:
        """Bring run.json up to date with the board and the configuration, and set `fields`.

        Rank 0 does. Raises OSError.
        """
        if not self._group.leads:
            return
        progress, config = self._board.progress, self._source.config
        self.keep(
            generation=config.generation,
            config=config.to_dict(),
            epoch=progress.epoch,
            best=progress.best.metrics() if progress.best else None,
            best_weights=progress.best.weights if progress.best else None,
            notes=progress.notes,
            timings=dict(self._milestones.reached),
            updated=now(),
            **fields,
        )
        self._run.write_record(self.record)


def _first(run: RunDirectory, config: TrainerConfig) -> RunRecord:
    record = RunRecord(
        namespace=config.namespace,
        job=config.job,
        uid=config.uid,
        generation=config.generation,
        attempt=run.attempt,
        start=run.start,
        state="Running",
        config=config.to_dict(),
        metrics_file=run.relative(run.metrics_file),
        started=now(),
        updated=now(),
    )
    earlier = run.read_record()
    if earlier is None:
        return record
    # What earlier starts left is there until it is replaced.
    kept = ("model", "model_weights", "fingerprint", "test", "export")
    return record.model_copy(update={name: getattr(earlier, name) for name in kept})
