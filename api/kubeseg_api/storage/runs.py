"""Reading a run's folder: its history, and the weights files that are really there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kubeseg_api.errors import ApiError
from kubeseg_api.storage.files import file_below
from kubeseg_types import workspace
from kubeseg_types.trainer import EpochRecord, RunRecord


@dataclass(frozen=True)
class Run:
    """The run of one TrainingJob, by its name and UID."""

    root: Path
    job: str
    uid: str

    @property
    def folder(self) -> str:
        """Relative to the workspace."""
        return workspace.run_dir(self.job, self.uid)

    def history(self) -> list[EpochRecord]:
        """One record for each finished epoch, 1, 2, 3, …; empty before the first.

        Raises ApiError (500) where the file holds what can't be read.
        """
        attempts = self.root / self.folder / workspace.ATTEMPTS
        for name in _newest_first(attempts):
            file = attempts / name / workspace.METRICS_FILE
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                continue  # this start has not finished an epoch yet: the one before counts
            return _parse(content, file.relative_to(self.root).as_posix())
        return []

    def weights(self, record: EpochRecord) -> str | None:
        """Path of the epoch's weights below the workspace, or None where the file is not there
        in full length.
        """
        if record.weights is None:
            return None
        found = file_below(self.root, record.weights.path, self.folder)
        if found is None or found.stat().st_size != record.weights.bytes:
            return None
        return record.weights.path

    def newest_weights(self) -> str | None:
        """Path of the newest epoch's weights that are there, or None."""
        for record in reversed(self.history()):
            path = self.weights(record)
            if path:
                return path
        return None

    def weights_of(self, epoch: int) -> str | None:
        """Path of the weights of `epoch` (from 1), or None where they are not there."""
        for record in self.history():
            if record.epoch == epoch:
                return self.weights(record)
        return None


def newest_run(root: Path, job: str) -> Run | None:
    """The run of `job` that was started last, for when no TrainingJob tells the UID."""
    folder = root / workspace.RUNS / job
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return None
    runs = [Run(root, job, name) for name in names]
    return max(runs, key=_started, default=None)


def _started(run: Run) -> tuple[str, str]:
    try:
        record = RunRecord.model_validate_json(
            (run.root / run.folder / workspace.RUN_FILE).read_bytes()
        )
    except (FileNotFoundError, ValidationError):
        return "", run.uid  # never got as far as its run.json: any other run is newer
    return record.started, run.uid


def _newest_first(attempts: Path) -> list[str]:
    try:
        entries = [entry.name for entry in attempts.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbered = [(workspace.parse_attempt_name(name), name) for name in entries]
    return [name for number, name in sorted((n, e) for n, e in numbered if n)[::-1]]


def _parse(content: bytes, shown: str) -> list[EpochRecord]:
    records: dict[int, EpochRecord] = {}
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = EpochRecord.model_validate(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break  # without its line feed: being written at this moment
            raise ApiError(
                f"{shown}, line {number}, is not a record of an epoch: {str(error)[:200]}",
                kind="history-unreadable",
                title="The run's history can't be read",
            ) from error
        records[record.epoch] = record
    return [records[epoch] for epoch in sorted(records)]
