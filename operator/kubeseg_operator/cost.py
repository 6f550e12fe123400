"""What attempts cost, what of it was lost, and what would be lost now. Pure.

An attempt costs from its trainer's start to its end; what came after its newest checkpoint is done
again, and so lost, unless it succeeded.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubeseg_operator.clock import human, parse, stamp
from kubeseg_operator.outcome import MAX_COUNT
from kubeseg_types.exit_codes import Outcome
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import (
    AtRisk,
    Attempt,
    CheckpointPointer,
    JobProgress,
    Phase,
    Totals,
    TrainingJobStatus,
)

_HOUR = 3600.0


def gpus_of(spec: TrainingJobSpec) -> int:
    """GPUs of all workers of an attempt."""
    return spec.resources.gpus * spec.workers


def cost(attempt: Attempt, checkpoint: CheckpointPointer | None) -> dict[str, Any]:
    """Fields of an ended attempt: its duration and GPU-hours, and how much of them was lost.

    `checkpoint` is the newest of the job. One that never started has cost nothing.
    """
    begin, end = parse(attempt.start_time), parse(attempt.end_time)
    if begin is None or end is None:
        return _figures(0.0, 0.0, attempt.gpus or 0)
    seconds = max(0.0, (end - begin).total_seconds())
    if attempt.outcome == Outcome.SUCCEEDED:
        return _figures(seconds, 0.0, attempt.gpus or 0)
    saved = parse(checkpoint.time) if checkpoint else None
    # One from before this attempt saved nothing of it; a pod's clock may be ahead of ours.
    kept = min(max(0.0, (saved - begin).total_seconds()), seconds) if saved else 0.0
    return _figures(seconds, seconds - kept, attempt.gpus or 0)


def _figures(seconds: float, lost: float, gpus: int) -> dict[str, Any]:
    return {
        "seconds": round(seconds),
        "lost_seconds": round(lost),
        "gpu_hours": round(gpus * seconds / _HOUR, 4),
        "lost_gpu_hours": round(gpus * lost / _HOUR, 4),
    }


def add_up(totals: Totals | None, ended: Attempt) -> Totals:
    """`totals` with one more attempt; written together with its end, so that none counts twice."""
    old = totals or Totals()
    return Totals(
        attempts=old.attempts + 1,
        seconds=old.seconds + (ended.seconds or 0),
        lost_seconds=old.lost_seconds + (ended.lost_seconds or 0),
        gpu_hours=round(old.gpu_hours + (ended.gpu_hours or 0), 4),
        lost_gpu_hours=round(old.lost_gpu_hours + (ended.lost_gpu_hours or 0), 4),
    )


def in_words(totals: Totals | None) -> str:
    """What to add to the words about a job that has ended; empty where there is nothing to tell."""
    if totals is None or totals.attempts < 2:
        return ""
    words = f"; {totals.attempts} attempts, {human(totals.seconds)}"
    if totals.gpu_hours:
        words += f", {totals.gpu_hours:.1f} GPU-hours, {totals.lost_gpu_hours:.1f} of them lost"
    elif totals.lost_seconds:
        words += f", {human(totals.lost_seconds)} of them lost"
    return words


def at_risk(status: TrainingJobStatus, phase: Phase) -> AtRisk | None:
    """What would be done again if the trainer were killed now; nothing where none runs.

    Made of times and of progress as it is written anyway, so that no clock's tick is a write.
    """
    attempt = status.attempts[-1] if status.attempts else None
    begin = parse(attempt.start_time) if attempt else None
    if phase is not Phase.RUNNING or begin is None:
        return None
    progress = status.progress or JobProgress()
    pointer = progress.checkpoint
    saved = parse(pointer.time) if pointer else None
    since: datetime = max(begin, saved) if saved else begin
    # A pod may claim any number, and the API server takes only those of 64 bits.
    done = min(progress.epoch * progress.steps_per_epoch + progress.step, MAX_COUNT)
    kept = max(pointer.step, pointer.epoch * progress.steps_per_epoch) if pointer else 0
    return AtRisk(
        since=stamp(since),
        epochs=max(0, progress.epoch - (pointer.epoch if pointer else 0)),
        steps=max(0, done - kept),
    )
