"""Phase, conditions and column texts from where a TrainingJob stands. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubeseg_operator.clock import human, stamp
from kubeseg_operator.cost import at_risk
from kubeseg_operator.outcome import clip
from kubeseg_types.status import (
    Condition,
    ConditionType,
    JobProgress,
    Metrics,
    Phase,
    Summary,
    TrainingJobStatus,
)

_TRUE_IN = {
    Phase.RUNNING: ConditionType.RUNNING,
    Phase.BLOCKED: ConditionType.BLOCKED,
    Phase.QUEUED: ConditionType.BLOCKED,
    Phase.SUSPENDED: ConditionType.SUSPENDED,
    Phase.SUCCEEDED: ConditionType.COMPLETE,
    Phase.FAILED: ConditionType.FAILED,
}
#: Reason and message of those that are False; Running has where the job stands instead.
_FALSE_WORDS = {
    ConditionType.BLOCKED: ("NotBlocked", "nothing keeps it from starting"),
    ConditionType.SUSPENDED: ("NotSuspended", "it is not paused"),
    ConditionType.COMPLETE: ("NotComplete", "it has not succeeded"),
    ConditionType.FAILED: ("NotFailed", "it has not failed"),
}
#: Phases whose message answers "why isn't it running?".
_EXPLAINED = frozenset(
    {
        Phase.BLOCKED,
        Phase.CHECKING,
        Phase.DELETING,
        Phase.FAILED,
        Phase.PENDING,
        Phase.QUEUED,
        Phase.RETRYING,
        Phase.SUSPENDED,
    }
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands.

    `suspending`: the user wants a pause, and the pods still end. `explain`: the message answers
    "why does it not go on?", whatever the phase.
    """

    phase: Phase
    reason: str
    message: str
    suspending: bool = False
    explain: bool = False
    #: Of several workers, how many run: 2/4.
    workers: str = ""


def condition(status: TrainingJobStatus, kind: ConditionType) -> Condition | None:
    """The condition of this type, if it is there."""
    return next((c for c in status.conditions if c.type == kind), None)


def is_true(status: TrainingJobStatus, kind: ConditionType) -> bool:
    """True where this condition is."""
    found = condition(status, kind)
    return found is not None and found.status == "True"


def is_finished(status: TrainingJobStatus) -> bool:
    """Terminal means terminal."""
    return is_true(status, ConditionType.COMPLETE) or is_true(status, ConditionType.FAILED)


def _words(kind: ConditionType, standing: Standing) -> tuple[str, str]:
    """Reason and message of a condition that is False."""
    if kind is ConditionType.RUNNING:
        return standing.reason, standing.message
    if kind is ConditionType.SUSPENDED and standing.suspending:
        return "Suspending", "the trainer is writing a checkpoint and ending"
    return _FALSE_WORDS[kind]


def _conditions(
    old: TrainingJobStatus, standing: Standing, generation: int, now: datetime
) -> list[Condition]:
    conditions = []
    for kind in ConditionType:
        true = _TRUE_IN.get(standing.phase) is kind
        reason, message = (standing.reason, standing.message) if true else _words(kind, standing)
        before = condition(old, kind)
        value = "True" if true else "False"
        unchanged = before is not None and before.status == value
        conditions.append(
            Condition(
                type=kind.value,
                status="True" if true else "False",
                reason=reason,
                message=clip(message, 4096),
                last_transition_time=(
                    before.last_transition_time if before and unchanged else stamp(now)
                ),
                observed_generation=generation,
            )
        )
    return conditions


def summary(
    progress: JobProgress | None, metrics: Metrics | None, standing: Standing
) -> Summary | None:
    """Texts for kubectl's columns."""
    last = metrics.last if metrics else None
    best = metrics.best if metrics else None
    texts = Summary(
        epoch=f"{progress.epoch}/{progress.epochs}" if progress and progress.epochs else None,
        val_iou=_iou(last.val_iou) if last else None,
        best=f"{_iou(best.val_iou)} ({best.epoch})" if best and best.val_iou is not None else None,
        eta=(
            human(progress.eta_seconds)
            if progress and progress.eta_seconds is not None and standing.phase is Phase.RUNNING
            else None
        ),
        workers=standing.workers or None,
        why=(
            clip(standing.message, 1000)
            if standing.explain or standing.phase in _EXPLAINED
            else None
        ),
    )
    return texts if texts.to_dict() else None


def _iou(value: float | None) -> str | None:
    # A pod may claim any number, and the column has 32 characters.
    return None if value is None else clip(f"{value:.3f}", 12)


def describe(
    old: TrainingJobStatus,
    draft: TrainingJobStatus,
    standing: Standing,
    generation: int,
    now: datetime,
) -> TrainingJobStatus:
    """`draft` with phase, conditions and texts; a transition's time only moves when it does."""
    return draft.model_copy(
        update={
            "observed_generation": generation,
            "phase": standing.phase,
            "at_risk": at_risk(draft, standing.phase),
            "conditions": _conditions(old, standing, generation, now),
            "summary": summary(draft.progress, draft.metrics, standing),
        }
    )


def undescribed(status: TrainingJobStatus) -> bool:
    """True where the operator has not visited this job yet."""
    return not status.conditions


def meaningful(old: TrainingJobStatus, new: TrainingJobStatus) -> bool:
    """True where `new` is worth a write.

    The UID of the running attempt's Job alone is not: it goes along with the next write.
    """
    if (
        old.attempts
        and new.attempts
        and old.attempts[-1].number == new.attempts[-1].number
        and old.attempts[-1].uid is None
    ):
        bare = new.attempts[-1].model_copy(update={"uid": None})
        new = new.model_copy(update={"attempts": [*new.attempts[:-1], bare]})
    return old.to_dict() != new.to_dict()
