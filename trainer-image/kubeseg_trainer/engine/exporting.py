"""The end of a training: the test part evaluated, the model folder made and put in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeseg_trainer.errors import storage_error
from kubeseg_trainer.files import sha256_of, sync_directory, temporary_beside
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types.trainer import EpochRecord, Part, RunRecord, WeightsFile

#: In the report while an export is under way: the weights' digest. Found by a later start, it says
#: that the process was ended from outside in the middle of it.
UNDER_WAY = "underWay"


@dataclass(frozen=True)
class ExportRequest:
    """What a task needs to know to export a model."""

    #: The file with the best epoch's weights, and that epoch.
    weights: Path
    best: EpochRecord
    history: Sequence[EpochRecord]
    #: Metrics of the test part with these weights, where there is one.
    test: Part | None
    #: The run as it stands.
    record: RunRecord
    #: Why the training is over.
    why: str
    #: Folder with the pictures of the best epoch, or None.
    samples: Path | None
    #: What was made of the same weights before, and what was said of it; or None.
    earlier: Path | None
    earlier_report: dict[str, Any]
    #: False where an earlier start did not outlive this export: leave out what isn't necessary.
    complete: bool
    #: To be called at least once a second, with a word on what is done; what it raises ends all.
    alive: Callable[[str], None] = field(repr=False)


@dataclass(frozen=True)
class Known:
    """What is known of a run's best weights from an earlier start."""

    test: Part | None = None
    model: bool = False
    report: dict[str, Any] = field(default_factory=dict)
    complete: bool = True


def known_of(
    record: RunRecord | None, weights: WeightsFile, fingerprint: str, model: Path
) -> Known:
    """What `record`, of an earlier start, says that still holds for these weights and this data."""
    if record is None:
        return Known()
    complete = record.export.get(UNDER_WAY) != weights.sha256
    same = record.model_weights is not None and record.model_weights.sha256 == weights.sha256
    if not same:
        return Known(complete=complete)
    test = record.test if record.fingerprint == fingerprint else None
    return Known(test, model.is_dir(), record.export, complete)


def publish(
    run: RunDirectory, fill: Callable[[Path], dict[str, Any]]
) -> tuple[WeightsFile, dict[str, Any]]:
    """Let `fill` fill an empty folder, and put it in the place of the run's model folder.

    Returns the weights file in it and what `fill` returned. StorageError where it can't be written,
    SupersededError where a newer start is there: the folder is that one's now.
    """
    target = run.model_folder
    fresh, old = temporary_beside(target), temporary_beside(target)
    try:
        fresh.mkdir()
        report = fill(fresh)
        for path in fresh.rglob("*"):
            if path.is_file():
                with path.open("rb") as opened:
                    os.fsync(opened.fileno())
            else:
                sync_directory(path)
        sync_directory(fresh)
        run.not_superseded()
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        sync_directory(target.parent)
        file = target / "model.safetensors"
        size = file.stat().st_size
        weights = WeightsFile(path=run.relative(file), sha256=sha256_of(file), bytes=size)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
    return weights, report
