"""The state of one decision: a draft of the status that its steps change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubeseg_operator.clock import parse, stamp
from kubeseg_operator.conditions import Standing, describe
from kubeseg_operator.decide.model import Action, Ask, Decision, DeleteChild, Observed, Settings
from kubeseg_operator.errands import errand_number
from kubeseg_operator.views import Child, JobView, Pod
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import Attempt, Cleanup, Phase, Preflight, Retry, TrainingJobStatus

#: So many Jobs that belong to no attempt are ended in one visit: others may make thousands.
AT_A_TIME = 20


@dataclass(slots=True)
class Draft:
    """One decision in the making."""

    job: JobView
    spec: TrainingJobSpec
    seen: Observed
    now: datetime
    settings: Settings
    before: TrainingJobStatus
    status: TrainingJobStatus
    actions: list[Action] = field(default_factory=list)
    requeue: float | None = None

    def update(self, **fields: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=fields)

    @property
    def time(self) -> str:
        """Now, as status carries it."""
        return stamp(self.now)

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.status.attempts[-1] if self.status.attempts else None

    @property
    def active(self) -> Attempt | None:
        """The attempt that has not ended."""
        last = self.last
        return last if last and last.end_time is None else None

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.status.progress.epoch if self.status.progress else 0

    @property
    def retry(self) -> Retry:
        """Failures since the last progress."""
        return self.status.retry or Retry()

    def replace_last(self, **fields: Any) -> Attempt:
        """Change the newest attempt's record."""
        attempts = self.status.attempts
        changed = attempts[-1].model_copy(update=fields)
        self.update(attempts=[*attempts[:-1], changed])
        return changed

    def child_of(self, attempt: Attempt) -> Child | None:
        """The Job of this attempt, by the UID that was recorded, or by name before that: its label
        may have been changed.
        """
        for child in self.seen.children:
            if child.uid == attempt.uid or (attempt.uid is None and child.name == attempt.job_name):
                return child
        return None

    def errand_of(self, record: Preflight | Cleanup) -> Child | None:
        """The Job of a check or clean-up, by the UID that was recorded, or by name before that."""
        for child in self.seen.children:
            if child.uid == record.uid or (record.uid is None and child.name == record.job_name):
                return child
        return None

    def pods_of(self, attempt: Attempt, child: Child | None) -> list[Pod]:
        """All that is known of the pods of this attempt.

        Labels alone make no pod ours, nor do they say that it isn't: it must come from the
        attempt's Job, or from any Job as long as that Job's UID is not known.
        """
        uid = child.uid if child else attempt.uid
        if uid is not None:
            return [pod for pod in self.seen.pods if pod.child == uid]
        return [p for p in self.seen.pods if p.attempt == attempt.number and p.child is not None]

    def again_after(self, seconds: float) -> None:
        """Visit again after so many seconds, or earlier."""
        self.requeue = seconds if self.requeue is None else min(self.requeue, seconds)

    def again_at(self, text: str | None, seconds: float = 0) -> bool:
        """Visit again so many seconds after a time of status; True where that is yet to come."""
        moment = parse(text)
        left = (moment - self.now).total_seconds() + seconds if moment else 0
        if left <= 0:
            return False
        self.again_after(left)
        return True

    def end_strays(self, keep: Child | None) -> None:
        """Jobs of ours beside `keep` that still run belong to no attempt: a late write made them,
        or their attempt was ended.
        """
        found = [
            action
            for action in strays(self.seen, self.status)
            if (keep is None or action.uid != keep.uid) and action not in self.actions
        ]
        self.actions += found[:AT_A_TIME]
        if len(found) > AT_A_TIME:
            self.again_after(1)

    def ask(self, question: Ask) -> Decision:
        """Nothing can be decided before this is read live."""
        return Decision(self.before, ask=question)

    def unchanged(self) -> Decision:
        """Where the job stands is as it was; what was learnt beside that is kept."""
        return Decision(self.status, tuple(self.actions), self.requeue)

    def decided(self, standing: Standing) -> Decision:
        """The decision, with the status that says so."""
        status = describe(self.before, self.status, standing, self.job.generation, self.now)
        return Decision(status, tuple(self.actions), self.requeue)


def strays(seen: Observed, status: TrainingJobStatus) -> list[DeleteChild]:
    """Jobs of ours that still run, to be ended; the running attempt's is among them.

    A Job that `status` does not know yet is none: this status is an old one, since an attempt, a
    check or a clean-up is in status before its Job is made.
    """
    return [
        DeleteChild(child.name, child.uid)
        for child in seen.children
        if child.finished is None and not child.deleting and _is_known(child, status)
    ]


def _is_known(child: Child, status: TrainingJobStatus) -> bool:
    errand = errand_number(child.name)
    if child.attempt or errand is None:
        return child.attempt <= (status.attempts[-1].number if status.attempts else 0)
    record = status.preflight if errand[0] == "check" else status.cleanup
    return errand[1] <= (record.number if record else 0)


def starting(attempt: Attempt) -> Standing:
    """The attempt's trainer does not run yet."""
    return Standing(Phase.STARTING, "Starting", f"attempt {attempt.number} is starting")
