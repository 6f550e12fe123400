"""The end of a TrainingJob whose run goes with it (`artifacts.onDelete: Delete`).

Our finalizer holds the deletion up while the attempt ends and a clean-up Job removes the run. It is
let go in any case: where the run can't be removed, an event says what is left, and where. So no
deletion hangs for ever, neither of a TrainingJob nor of a namespace.
"""

from __future__ import annotations

from kubeseg_operator.conditions import Standing, is_finished
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.ends import DELETED, end_attempt
from kubeseg_operator.decide.holdup import LOOK_AGAIN, hold_up
from kubeseg_operator.decide.model import Ask, CreateChild, Decision, DeleteChild, SetFinalizers
from kubeseg_operator.errands import CLEANUP_ASKS, cleanup_job, cleanup_name, errand_spec
from kubeseg_operator.obstacle import EDITED
from kubeseg_operator.outcome import Ending, clip, ending
from kubeseg_operator.views import Child, JobView
from kubeseg_types.exit_codes import Outcome
from kubeseg_types.names import FINALIZER_ARTIFACTS
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import (
    CheckOutcome,
    Cleanup,
    CleanupOutcome,
    Phase,
    Summary,
    TrainingJobStatus,
)
from kubeseg_types.workspace import run_dir

#: Seconds after the deletion that pods of attempts are waited for: their grace period is 60.
POD_PATIENCE = 600.0
#: Seconds after which that they still run is no longer believed without a look.
NEWS_PATIENCE = 90.0
#: Seconds that a Job without pods may take to go, before it counts as held by a finalizer.
HELD_PATIENCE = 30.0
#: Seconds that a clean-up Job may take to start.
START_PATIENCE = 300.0
MAX_TRIES = 3
#: The volume is not there, or never was: no other try will find it.
_NO_VOLUME = frozenset({"WorkspaceMissing", "WorkspaceLeaving", "WorkspaceUnbound"})


def finalizers(job: JobView, spec: TrainingJobSpec) -> tuple[str, ...]:
    """The finalizers that `job` should have: ours as the spec wishes, all others as they are."""
    if spec.artifacts.on_delete != "Delete":
        return _of_others(job)
    if FINALIZER_ARTIFACTS in job.finalizers:
        return job.finalizers
    return (*job.finalizers, FINALIZER_ARTIFACTS)


def leave(draft: Draft) -> Decision:
    """Decide on a TrainingJob that is being deleted, and that has our finalizer."""
    record = draft.status.cleanup
    if draft.spec.artifacts.on_delete != "Delete" or (record and record.outcome):
        return _let_go(draft)
    if record is None:
        if not draft.status.attempts and draft.status.preflight is None:
            # No pod was ever asked for: there is no run.
            return _let_go(draft)
        return _end_pods(draft)
    return _follow(draft, record)


def let_go(job: JobView, before: TrainingJobStatus) -> Decision:
    """Without a spec that can be read nobody knows where the run is."""
    return Decision(before, (SetFinalizers(job.uid, job.version, _of_others(job)),))


def _of_others(job: JobView) -> tuple[str, ...]:
    return tuple(name for name in job.finalizers if name != FINALIZER_ARTIFACTS)


def _let_go(draft: Draft) -> Decision:
    job, record = draft.job, draft.status.cleanup
    names = {cleanup_name(job.key.name, n + 1) for n in range(record.number if record else 0)}
    done = [
        DeleteChild(child.name, child.uid)
        for child in draft.seen.children
        if child.name in names and not child.deleting
    ]
    if done:
        # Nobody else takes them away: the finalizer stays until that is sure.
        return Decision(draft.before, tuple(done), requeue_after=1.0)
    return let_go(job, draft.before)


def _where(draft: Draft) -> str:
    run = run_dir(draft.job.key.name, draft.job.uid)
    return f'{run} in the workspace claim "{draft.spec.workspace.claim_name}"'


def _standing(draft: Draft, words: str) -> Decision:
    """Where the deletion stands; how a finished job ended stays as it is."""
    words = f"is being deleted: {words}"
    if is_finished(draft.before):
        summary = (draft.status.summary or Summary()).model_copy(update={"why": clip(words, 1000)})
        draft.update(summary=summary)
        return draft.unchanged()
    return draft.decided(Standing(Phase.DELETING, "Deleting", words))


def _decided(draft: Draft, outcome: CleanupOutcome, words: str) -> Decision:
    record = draft.status.cleanup or Cleanup(number=0)
    text = clip(words, 2000)
    draft.update(cleanup=record.model_copy(update={"outcome": outcome, "message": text}))
    return _standing(draft, text)


def _left(draft: Draft, why: str) -> Decision:
    return _decided(draft, CleanupOutcome.LEFT, f"{_where(draft)} is left there: {why}")


def _overdue(draft: Draft, since: str | None, patience: float) -> bool:
    return not draft.again_at(since, patience)


# --- the attempt ends


def _end_pods(draft: Draft) -> Decision:
    """All that may write to the run ends first: SIGTERM, and its grace period."""
    seen = draft.seen
    draft.end_strays(keep=None)
    running = [child for child in seen.children if child.finished is None]
    pods = [pod for pod in seen.pods if not pod.ended and pod.child is not None]
    if _overdue(draft, draft.job.deleted, HELD_PATIENCE):
        # One that is being deleted makes no pods; what holds it need not hold up the folder.
        having = {pod.child for pod in pods}
        running = [child for child in running if not child.deleting or child.uid in having]
    # Where its grace period is long over, what is known to run may be old news.
    if not running or _overdue(draft, draft.job.deleted, NEWS_PATIENCE):
        for question in _unsure(draft, running):
            if question not in seen.confirmed:
                return draft.ask(question)
    if running or pods:
        if _overdue(draft, draft.job.deleted, POD_PATIENCE):
            names = ", ".join(pod.name for pod in pods[:3]) or running[0].name
            return _left(draft, f"{names} has not ended within {POD_PATIENCE:.0f} s")
        draft.again_after(LOOK_AGAIN)
        return _standing(draft, "its pods are ending")
    _close_records(draft)
    return _reserve(draft)


def _unsure(draft: Draft, running: list[Child]) -> list[Ask]:
    """What must be read live: a stale store may not know of a Job or pod that still runs, or that
    one which ran is gone.
    """
    questions = [Ask.PODS]
    record = draft.status.preflight
    if draft.active or running:
        questions.append(Ask.CHILD)
    if record is not None and record.outcome is None:
        questions.append(Ask.CHECK)
    return questions


def _close_records(draft: Draft) -> None:
    record = draft.status.preflight
    if record is not None and record.outcome is None:
        closed = {"outcome": CheckOutcome.INTERRUPTED, "reason": DELETED, "end_time": draft.time}
        draft.update(preflight=record.model_copy(update=closed))
    if draft.active:
        end_attempt(draft, Ending(Outcome.INTERRUPTED, DELETED, "its TrainingJob was deleted"))


# --- the clean-up


def _reserve(draft: Draft) -> Decision:
    """A clean-up exists in status before its Job does, as an attempt does."""
    old = draft.status.cleanup
    number = old.number + 1 if old else 1
    name = cleanup_name(draft.job.key.name, number)
    draft.update(cleanup=Cleanup(number=number, job_name=name, reserved_time=draft.time))
    return _standing(draft, f"{_where(draft)} is being removed")


def _again(draft: Draft, record: Cleanup, why: str) -> Decision:
    if record.number >= MAX_TRIES:
        return _left(draft, f"{record.number} clean-up Jobs failed, the last one: {why}")
    return _reserve(draft)


def _follow(draft: Draft, record: Cleanup) -> Decision:
    child = draft.errand_of(record)
    # What a late write may have made of an attempt.
    draft.end_strays(keep=child)
    if child is None:
        return _without_job(draft, record)
    if record.uid is None:
        record = record.model_copy(update={"uid": child.uid})
        draft.update(cleanup=record)
    pods = [pod for pod in draft.seen.pods if pod.child == child.uid]
    if child.finished == "Complete":
        return _decided(draft, CleanupOutcome.REMOVED, f"{_where(draft)} was removed")
    if child.finished:
        if Ask.PODS not in draft.seen.confirmed and all(pod.exit_code is None for pod in pods):
            return draft.ask(Ask.PODS)
        end = ending(child, pods)
        if end.outcome is Outcome.PERMANENT:
            return _left(draft, end.message)
        return _again(draft, record, end.message or child.message)
    if child.deleting or any(pod.running or pod.ended for pod in pods):
        # The Job has a deadline of its own.
        draft.again_after(LOOK_AGAIN)
        return draft.unchanged()
    pod = max(pods, key=lambda one: one.created, default=None)
    spec = errand_spec(draft.spec, CLEANUP_ASKS).model_copy(update={"image": None})
    found = hold_up(draft, spec, draft.settings.image, child, pod)
    if isinstance(found, Ask):
        return draft.ask(found)
    # Nobody edits a job that is being deleted.
    why = found.message.removesuffix(EDITED) if found else "it did not start"
    if found is not None and found.reason in _NO_VOLUME:
        return _left(draft, why)
    if _overdue(draft, child.created, START_PATIENCE):
        return _left(draft, f"no clean-up Job could start within {START_PATIENCE:.0f} s: {why}")
    words = f"{_where(draft)} is being removed"
    return _standing(draft, f"{words}, but the clean-up can't start: {why}" if found else words)


def _without_job(draft: Draft, record: Cleanup) -> Decision:
    seen = draft.seen
    if record.uid is not None:
        if Ask.CLEANUP not in seen.confirmed:
            return draft.ask(Ask.CLEANUP)
        pods = [pod for pod in seen.pods if pod.child == record.uid]
        if any(pod.exit_code == 0 for pod in pods):
            return _decided(draft, CleanupOutcome.REMOVED, f"{_where(draft)} was removed")
        return _again(draft, record, "it was deleted")
    refusal = seen.refusal
    if refusal is None:
        image, number = draft.settings.image, record.number
        manifest = cleanup_job(draft.job, draft.spec, number=number, image=image)
        draft.actions.append(CreateChild(manifest))
        return draft.unchanged()
    if refusal.reason == "NamespaceLeaving":
        return _left(draft, "its namespace is being deleted")
    if _overdue(draft, record.reserved_time, START_PATIENCE):
        return _left(draft, f"no clean-up Job could be made: {refusal.message}")
    draft.again_after(LOOK_AGAIN)
    return _standing(draft, f"the clean-up can't be made: {refusal.message}")
