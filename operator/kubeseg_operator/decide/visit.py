"""`decide`: one visit to a TrainingJob."""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from kubeseg_operator.clock import add, parse
from kubeseg_operator.conditions import Standing, is_finished, is_true
from kubeseg_operator.decide.attempt import INVALID_SPEC, fold_report, follow
from kubeseg_operator.decide.draft import AT_A_TIME, Draft, strays
from kubeseg_operator.decide.ends import fail, next_attempt
from kubeseg_operator.decide.leaving import finalizers, leave, let_go
from kubeseg_operator.decide.model import (
    Ask,
    Decision,
    DeleteChild,
    DeleteJob,
    Observed,
    SetFinalizers,
    Settings,
)
from kubeseg_operator.decide.preflight import awaited, check
from kubeseg_operator.outcome import clip
from kubeseg_operator.reading import spec_of, status_of
from kubeseg_operator.views import Child, JobView
from kubeseg_types.names import FINALIZER_ARTIFACTS
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import Condition, ConditionType, Phase, TrainingJobStatus


def decide(job: JobView, seen: Observed, now: datetime, settings: Settings) -> Decision:
    """What is to be done for `job`. Raises ValueError where its status can't be read."""
    if job.deleting:
        return _leave(job, seen, now, settings)
    before = status_of(job)
    spec = spec_of(job)
    if not isinstance(spec, list) and finalizers(job, spec) != job.finalizers:
        return Decision(before, (SetFinalizers(job.uid, job.version, finalizers(job, spec)),))
    if is_finished(before) and not _reopens(before, spec):
        return _rest(job, before, seen, now, spec)
    if isinstance(spec, list):
        return _hold(job, before, seen, now, spec)
    draft = Draft(job, spec, seen, now, settings, before, before)
    if is_finished(before):
        draft.update(
            completion_time=None, finished=None, retry=None, start_time=None, phase=Phase.PENDING
        )
    attempt = draft.active
    if not spec.suspend and _deadline_passed(draft):
        if attempt is not None and Ask.CHILD not in seen.confirmed:
            # It may have ended in time, and this store be behind: a failure is for ever.
            return draft.ask(Ask.CHILD)
        child = draft.child_of(attempt) if attempt else None
        if child is None or not (child.finished or _clock_stood(draft, child)):
            return fail(
                draft,
                "DeadlineExceeded",
                f"ran for longer than activeDeadlineSeconds: {spec.active_deadline_seconds} s "
                f"since {draft.status.start_time}",
            )
    if attempt is not None:
        return follow(draft, attempt)
    return check(draft) if awaited(draft) else next_attempt(draft)


def _reopens(status: TrainingJobStatus, spec: TrainingJobSpec | list[str]) -> bool:
    """More epochs than were in force at the finish: the one thing that reopens a job."""
    if isinstance(spec, list) or spec.stop or spec.suspend:
        return False
    return _wants_more(status, spec)


def _wants_more(status: TrainingJobStatus, spec: TrainingJobSpec) -> bool:
    if status.finished is None:
        return False
    done = status.progress.epoch if status.progress else 0
    return is_true(status, ConditionType.COMPLETE) and spec.training.epochs > max(
        status.finished.epochs, done
    )


def _deadline_passed(draft: Draft) -> bool:
    limit = draft.spec.active_deadline_seconds
    if limit is None or draft.status.start_time is None:
        return False
    return not draft.again_at(draft.status.start_time, limit)


def _clock_stood(draft: Draft, child: Child) -> bool:
    """Whether its queue keeps it waiting, or did until lately, and nobody had noticed."""
    if draft.spec.queue_name is None:
        return False
    if child.suspended:
        return True
    if child.started is None or child.started <= (draft.status.start_time or ""):
        return False
    draft.update(start_time=child.started)
    return not _deadline_passed(draft)


def _leave(job: JobView, seen: Observed, now: datetime, settings: Settings) -> Decision:
    """A TrainingJob that is being deleted."""
    ours = FINALIZER_ARTIFACTS in job.finalizers
    try:
        before = status_of(job)
        spec = TrainingJobSpec.model_validate(job.spec)
    except ValidationError:
        # Whatever somebody wrote there must not hold up the deletion.
        before = TrainingJobStatus()
        return let_go(job, before) if ours else Decision(before)
    if not ours:
        # The garbage collector does the rest: every child has an owner reference.
        return Decision(before)
    return leave(Draft(job, spec, seen, now, settings, before, before))


def _rest(
    job: JobView,
    status: TrainingJobStatus,
    seen: Observed,
    now: datetime,
    spec: TrainingJobSpec | list[str],
) -> Decision:
    """A finished job makes no children; only its time to live is left to watch."""
    if status.observed_generation != job.generation:
        seen_now = {"observed_generation": job.generation}
        conditions = [
            c.model_copy(update=seen_now | _complete_words(c, status, spec))
            for c in status.conditions
        ]
        status = status.model_copy(
            update={"observed_generation": job.generation, "conditions": conditions}
        )
    found = strays(seen, status)
    actions: list[DeleteChild | DeleteJob] = [*found[:AT_A_TIME]]
    if len(found) > AT_A_TIME:
        return Decision(status, tuple(actions), requeue_after=1)
    ttl = None if isinstance(spec, list) else spec.ttl_seconds_after_finished
    ended = parse(status.completion_time)
    if ttl is None or ended is None:
        return Decision(status, tuple(actions))
    left = (add(ended, ttl) - now).total_seconds()
    if left > 0:
        return Decision(status, tuple(actions), requeue_after=left)
    # Again where it was refused: what was decided on may have been an old version.
    return Decision(status, (*actions, DeleteJob(job.uid, job.version)), requeue_after=15.0)


#: Where the words about what holds a finished job back begin.
_HELD_BACK = " epochs are wanted now, but "


def _complete_words(
    found: Condition, status: TrainingJobStatus, spec: TrainingJobSpec | list[str]
) -> dict[str, str]:
    """The message of Complete: also what keeps a finished job from training the epochs that its
    spec now has.
    """
    if found.type != ConditionType.COMPLETE or isinstance(spec, list):
        return {}
    words = found.message
    if _HELD_BACK in words:
        words = words.partition(_HELD_BACK)[0].rpartition("; ")[0]
    if _wants_more(status, spec):
        names = [f"spec.{name}" for name in ("stop", "suspend") if getattr(spec, name)]
        are, them = ("are", "them") if len(names) > 1 else ("is", "it")
        words += (
            f"; {spec.training.epochs}{_HELD_BACK}{' and '.join(names)} {are} true: set {them} to "
            "false"
        )
    return {"message": clip(words, 4096)}


def _hold(
    job: JobView, before: TrainingJobStatus, seen: Observed, now: datetime, sentences: list[str]
) -> Decision:
    """A spec that passed the API server, but that this version can't follow.

    It is no failure: during an upgrade the schema may be newer than the operator, for all jobs.
    """
    draft = Draft(job, _NO_SPEC, seen, now, Settings(image=""), before, before)
    if before.phase is Phase.SUSPENDED and job.spec.get("suspend") is True:
        # Nothing that it wants now is held up.
        return draft.unchanged()
    attempt = draft.active
    words = f"{'; '.join(sentences[:5])}. "
    if attempt is None:
        # The deadline's clock stands, as it does while a job is suspended.
        draft.update(start_time=None)
    else:
        fold_report(draft, attempt)
        child = draft.child_of(attempt)
        if child and not (child.finished or child.suspended or child.deleting):
            words += "Its trainer goes on undisturbed; suspend and stop are not heeded. "
    words += (
        "Correct it, or make a new TrainingJob where it can't be changed. If it is right, the "
        "operator is older than the CRD, and has to be upgraded. The job goes on by itself then."
    )
    return draft.decided(Standing(Phase.BLOCKED, INVALID_SPEC, clip(words, 4096)))


_NO_SPEC = TrainingJobSpec.model_validate({"dataset": {"name": "none"}, "training": {"epochs": 1}})
