"""What a trainer reports, folded into status: only what is worth a write. Pure."""

from __future__ import annotations

from datetime import datetime
from math import inf

from kubeseg_operator.clock import parse, stamp
from kubeseg_operator.outcome import MAX_COUNT, MAX_EPOCH
from kubeseg_types.names import MAX_CONFIG_BYTES
from kubeseg_types.status import (
    CheckpointPointer,
    JobProgress,
    Metrics,
    RunPointer,
    TrainingJobStatus,
)
from kubeseg_types.trainer import Progress, TerminationMessage
from kubeseg_types.workspace import run_dir

#: Steps, rates and times between epochs are written at most so often, in seconds.
BETWEEN_EPOCHS = 15.0
#: So long after a write, a checkpoint alone is worth the next one.
AFTER_EPOCH = 2.0
#: A longer time than this is not believed: 100 years.
_MAX_ETA = 3.2e9
#: Reports are small: names of 256 classes and two epochs' records.
MAX_REPORT_BYTES = 2 * MAX_CONFIG_BYTES


def believable(report: Progress) -> str | None:
    """Why a report can't be true, in a few words; None where it may be."""
    epochs = [report.epoch, report.epochs, report.start_epoch]
    epochs += [record.epoch for record in (report.last, report.best) if record]
    epochs += [report.checkpoint.epoch] if report.checkpoint else []
    if any(not 0 <= epoch <= MAX_EPOCH for epoch in epochs):
        return f"an epoch is out of 0 to {MAX_EPOCH}"
    counts = [report.seq, report.step, report.steps_per_epoch, report.generation]
    counts += [report.batch_size, report.accumulate]
    counts += [report.checkpoint.step] if report.checkpoint else []
    if any(not 0 <= count <= MAX_COUNT for count in counts):
        return "a count is out of range"
    if report.eta_seconds is not None and not 0 <= report.eta_seconds <= _MAX_ETA:
        return "etaSeconds is out of range"
    weights = report.best.weights if report.best else None
    if weights and (len(weights.path) > 1024 or len(weights.sha256) > 64):
        return "the path or digest of the best weights is too long"
    if report.checkpoint and len(report.checkpoint.time or "") > 40:
        return "the checkpoint's time is no time"
    return None


def _step_in_epoch(report: Progress) -> int:
    """Steps done in the current epoch, whether the trainer counts from it or from the start."""
    if report.steps_per_epoch <= 0 or report.step <= report.steps_per_epoch:
        return report.step
    return max(0, min(report.step - report.epoch * report.steps_per_epoch, report.steps_per_epoch))


def _checkpoint(pointer: CheckpointPointer | None) -> CheckpointPointer | None:
    """The pointer with a time that the API server takes, or without."""
    if pointer is None or pointer.time is None:
        return pointer
    made = parse(pointer.time)
    return pointer.model_copy(update={"time": stamp(made) if made else None})


def _notable(old: JobProgress, new: JobProgress) -> bool:
    """True where an epoch ended, a checkpoint was made or a changed configuration was seen."""
    ignored = {"step": 0, "eta_seconds": None, "samples_per_second": None, "updated": None}
    return old.model_copy(update=ignored) != new.model_copy(update=ignored)


def _pause(old: JobProgress | None, new: JobProgress, now: datetime) -> float | None:
    """Seconds until `new` is worth a write; None: it is now; infinity: it says nothing new."""
    written = parse(old.updated) if old else None
    if old is None or written is None:
        return None
    if new.model_copy(update={"updated": old.updated}) == old:
        return inf
    wait = BETWEEN_EPOCHS
    if _notable(old, new):
        # A checkpoint soon follows its epoch's end: the two are written together with what is next.
        alike = new.model_copy(update={"checkpoint": old.checkpoint})
        wait = AFTER_EPOCH if not _notable(old, alike) else 0.0
    left = wait - (now - written).total_seconds()
    return left if left > 0 else None


def fold(
    status: TrainingJobStatus, report: Progress, *, job: str, uid: str, now: datetime
) -> tuple[TrainingJobStatus, float | None]:
    """`status` with the report, and after how many seconds what is left out is worth a write."""
    old = status.progress
    new = JobProgress(
        epoch=report.epoch,
        epochs=report.epochs,
        step=_step_in_epoch(report),
        steps_per_epoch=report.steps_per_epoch,
        eta_seconds=None if report.eta_seconds is None else round(report.eta_seconds),
        samples_per_second=(
            None if report.samples_per_second is None else round(report.samples_per_second, 2)
        ),
        batch_size=report.batch_size,
        accumulate=report.accumulate,
        checkpoint=_checkpoint(report.checkpoint),
        trainer_generation=report.generation,
        updated=stamp(now),
    )
    pause = _pause(old, new, now)
    if old is not None and pause is not None:
        new = old
    weights = report.best.weights if report.best else None
    folded = status.model_copy(
        update={
            "progress": new,
            "metrics": _metrics(
                status.metrics,
                last=report.last.metrics() if report.last else None,
                best=report.best.metrics() if report.best else None,
            ),
            "run": RunPointer(
                path=run_dir(job, uid),
                best_epoch=report.best.epoch if report.best else None,
                best_weights=weights.path if weights else None,
                best_sha256=weights.sha256 if weights else None,
            ),
        }
    )
    return folded, pause if pause is not None and pause < inf else None


def _metrics(old: Metrics | None, **new: object) -> Metrics | None:
    known = {name: value for name, value in new.items() if value is not None}
    if not known:
        return old
    return (old or Metrics()).model_copy(update=known)


def fold_ending(
    status: TrainingJobStatus, told: TerminationMessage | None, *, job: str, uid: str, now: datetime
) -> TrainingJobStatus:
    """`status` with a trainer's last words; without any, only what no longer holds is taken out."""
    progress = status.progress
    if told is None:
        if progress is None:
            return status
        quiet = progress.model_copy(update={"eta_seconds": None, "samples_per_second": None})
        return status.model_copy(update={"progress": quiet})
    base = progress or JobProgress()
    # Epoch 0 after others: it ended before it had loaded its checkpoint, and knows no better.
    epoch = told.epoch or base.epoch
    checkpoint = _checkpoint(told.checkpoint) or base.checkpoint
    run = status.run or RunPointer(path=run_dir(job, uid))
    if told.best is not None:
        run = run.model_copy(update={"best_epoch": told.best.epoch})
    if told.best_weights:
        run = run.model_copy(
            update={"best_weights": told.best_weights, "best_sha256": told.best_sha256}
        )
    return status.model_copy(
        update={
            "progress": base.model_copy(
                update={
                    "epoch": epoch,
                    "epochs": told.epochs or base.epochs,
                    "step": 0,
                    "eta_seconds": None,
                    "samples_per_second": None,
                    "checkpoint": checkpoint,
                    "trainer_generation": told.generation or base.trainer_generation,
                    "updated": stamp(now),
                }
            ),
            "metrics": _metrics(status.metrics, last=told.last, best=told.best),
            "run": run,
        }
    )
