"""Events: what changed from one status to the next, as a short history for people. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from kubeseg_operator.clock import human, parse, stamp
from kubeseg_operator.conditions import condition, is_true
from kubeseg_operator.decide.ends import OWN_REASONS
from kubeseg_operator.decide.lost import REASON as NODE_LOST
from kubeseg_operator.decide.memory import images
from kubeseg_operator.outcome import clip
from kubeseg_operator.views import JobView, Raw
from kubeseg_types.exit_codes import Outcome
from kubeseg_types.names import API_VERSION, KIND, MANAGED_BY
from kubeseg_types.status import (
    Attempt,
    CheckOutcome,
    CleanupOutcome,
    ConditionType,
    Phase,
    TrainingJobStatus,
)


@dataclass(frozen=True, slots=True)
class Happening:
    """One event; `kind` is Normal or Warning."""

    kind: str
    reason: str
    message: str


def happenings(old: TrainingJobStatus, new: TrainingJobStatus, now: datetime) -> list[Happening]:
    """What is worth telling about the step from `old` to `new`, in order."""
    told: list[Happening] = []
    before = {attempt.number: attempt for attempt in old.attempts}
    for attempt in new.attempts:
        was = before.get(attempt.number)
        if attempt.start_time and not attempt.end_time and not (was and was.start_time):
            told.append(Happening("Normal", "AttemptStarted", _started(new, attempt)))
        told += _queue(new, was, attempt, now)
        if attempt.end_time and (was is None or not was.end_time):
            told += _ended(new, attempt, now)
    told += _errands(old, new)
    for kind, tell in _ON_TRUE.items():
        found, was_condition = condition(new, kind), condition(old, kind)
        if found is None or found.status != "True":
            continue
        fresh = was_condition is None or was_condition.status != "True"
        if fresh or (kind is ConditionType.BLOCKED and was_condition.reason != found.reason):  # type: ignore[union-attr]
            queued = kind is ConditionType.BLOCKED and new.phase is Phase.QUEUED
            if queued and found.reason == "Preempted":
                continue  # told with the attempt
            told.append(Happening(*(("Normal", "Queued") if queued else tell), found.message))
    running, was_running = (
        condition(new, ConditionType.RUNNING),
        condition(old, ConditionType.RUNNING),
    )
    if (
        running
        and running.reason == NODE_LOST
        and not (was_running and was_running.reason == NODE_LOST)
    ):
        told.append(Happening("Warning", NODE_LOST, running.message))
    resumed = is_true(old, ConditionType.SUSPENDED) and not is_true(new, ConditionType.SUSPENDED)
    over = is_true(new, ConditionType.COMPLETE) or is_true(new, ConditionType.FAILED)
    if resumed and not over and new.phase is not Phase.DELETING:
        told.append(Happening("Normal", "Resumed", "spec.suspend is false again"))
    if is_true(old, ConditionType.COMPLETE) and not is_true(new, ConditionType.COMPLETE):
        told.append(Happening("Normal", "Reopened", "spec.training.epochs was raised: training on"))
    return told


_ON_TRUE = {
    ConditionType.BLOCKED: ("Warning", "Blocked"),
    ConditionType.SUSPENDED: ("Normal", "Suspended"),
    ConditionType.COMPLETE: ("Normal", "Succeeded"),
    ConditionType.FAILED: ("Warning", "Failed"),
}


def _errands(old: TrainingJobStatus, new: TrainingJobStatus) -> list[Happening]:
    """How the check before the first attempt ended, and what became of a deleted job's run."""
    told: list[Happening] = []
    was, check = old.preflight, new.preflight
    if check and not (was and was.outcome is check.outcome) and check.outcome in _CHECKED:
        told.append(Happening(*_CHECKED[check.outcome], check.message or ""))
    cleanup = new.cleanup
    if cleanup and cleanup.outcome and not (old.cleanup and old.cleanup.outcome):
        told.append(Happening(*_CLEANED[cleanup.outcome], cleanup.message or ""))
    return told


#: A check that failed is told of by the job's own end, one to be made again by the next one.
_CHECKED = {
    CheckOutcome.PASSED: ("Normal", "Checked"),
    CheckOutcome.SKIPPED: ("Warning", "CheckSkipped"),
}
_CLEANED = {
    CleanupOutcome.REMOVED: ("Normal", "ArtifactsRemoved"),
    CleanupOutcome.LEFT: ("Warning", "ArtifactsLeft"),
}


def _started(status: TrainingJobStatus, attempt: Attempt) -> str:
    running = condition(status, ConditionType.RUNNING)
    if running and running.status == "True":
        return running.message.replace(" runs", "", 1)
    return f"attempt {attempt.number}"


def _queue(
    status: TrainingJobStatus, was: Attempt | None, attempt: Attempt, now: datetime
) -> list[Happening]:
    """What Kueue did to an attempt that had begun."""
    if (attempt.preemptions or 0) > ((was.preemptions if was else 0) or 0):
        words = f"{_where(attempt)} lost its place in the queue; {_saved(status, now)}"
        return [Happening("Normal", "Preempted", words)]
    waited = was is not None and was.queued_time and not attempt.queued_time
    if waited and attempt.start_time and not attempt.end_time:
        return [Happening("Normal", "Readmitted", f"attempt {attempt.number} goes on")]
    return []


def _where(attempt: Attempt) -> str:
    return f"attempt {attempt.number}" + (f" on node {attempt.node}" if attempt.node else "")


def _saved(status: TrainingJobStatus, now: datetime) -> str:
    pointer = status.progress.checkpoint if status.progress else None
    if pointer is None:
        return "no checkpoint yet"
    made = parse(pointer.time)
    age = f", {human((now - made).total_seconds())} old" if made else ""
    return f"newest checkpoint: epoch {pointer.epoch}{age}"


def _ended(status: TrainingJobStatus, attempt: Attempt, now: datetime) -> list[Happening]:
    if attempt.outcome == Outcome.INTERRUPTED and attempt.reason in OWN_REASONS:
        # The user asked for it, and reads of it in the next line.
        return []
    if attempt.outcome == Outcome.INTERRUPTED:
        why = f"{attempt.reason}: {attempt.message}" if attempt.message else attempt.reason
        words = f"{_where(attempt)} interrupted at epoch {attempt.epoch or 0} ({why}); "
        return [Happening("Normal", "Interrupted", words + _saved(status, now))]
    failed = attempt.outcome in {Outcome.FAILED, Outcome.OUT_OF_MEMORY}
    if failed and not is_true(status, ConditionType.FAILED):
        not_before = parse(status.retry.not_before) if status.retry else None
        wait = human((not_before - now).total_seconds()) if not_before else "0s"
        words = f"{_where(attempt)} failed ({attempt.reason}): {attempt.message or 'no message'}"
        batch = status.batch
        if batch and batch.after_attempt == attempt.number:
            wait += f" with at most {images(batch.images_at_once)} at once"
        return [Happening("Warning", "Retrying", f"{words}; going on in {wait}")]
    return []


def event_manifest(job: JobView, happening: Happening, now: datetime) -> Raw:
    """A core/v1 Event. Its name follows from what it tells, so that telling it twice is refused."""
    version = f"{job.uid}/{job.version}/{happening.reason}/{happening.message}"
    digest = hashlib.sha256(version.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job.key.name}.{digest}", "namespace": job.key.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": job.key.name,
            "namespace": job.key.namespace,
            "uid": job.uid,
            "resourceVersion": job.version,
        },
        "type": happening.kind,
        "reason": happening.reason,
        "message": clip(happening.message, 1000),
        "source": {"component": MANAGED_BY},
        "reportingComponent": MANAGED_BY,
        "reportingInstance": MANAGED_BY,
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
        "count": 1,
    }
