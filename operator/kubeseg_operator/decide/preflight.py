"""The check before the first attempt that asks for GPUs: its Job is made, followed, judged.

It is there to save GPU time, so what is not the data's fault never keeps a job from training:
after a second failure of its own, too many interruptions, or without room for it, the job goes on
to its first attempt, and says so. A job without GPUs has none: its trainer's own check says the
same as fast.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kubeseg_operator.conditions import Standing
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.edits import of_another_spec
from kubeseg_operator.decide.ends import fail, next_attempt
from kubeseg_operator.decide.holdup import LOOK_AGAIN, hold_up
from kubeseg_operator.decide.model import Ask, CreateChild, Decision, DeleteChild
from kubeseg_operator.errands import CHECK_ASKS, check_job, check_name, errand_spec
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.outcome import Ending, clip, ending, tells
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.exit_codes import Outcome
from kubeseg_types.status import CheckOutcome, Phase, Preflight

#: Failures of its own, and interruptions, after which the job goes on without the check.
MAX_FAILURES, MAX_INTERRUPTIONS = 2, 5
#: Seconds after which a check that no node has room for is given up.
ROOM_PATIENCE = 300.0
_FOR_WANT_OF_ROOM = frozenset({"Unschedulable", "Quota", "LimitRange"})


def awaited(draft: Draft) -> bool:
    """Whether a check is under way, or has to come before the first attempt."""
    record, spec = draft.status.preflight, draft.spec
    if record is not None and record.outcome is None:
        return True
    if spec.preflight == "Never" or spec.resources.gpus == 0 or draft.status.attempts:
        return False
    if spec.suspend or spec.stop:
        return False
    return record is None or record.outcome is CheckOutcome.INTERRUPTED


def check(draft: Draft) -> Decision:
    """Decide on the check: only where it is `awaited`."""
    record = draft.status.preflight
    if record is None or record.outcome is not None:
        draft.end_strays(keep=None)
        return _reserve(draft)
    child = draft.errand_of(record)
    draft.end_strays(keep=child)
    if draft.spec.stop:
        # There is no epoch yet, and so no model: that is for the job's own end to say.
        _close(draft, CheckOutcome.INTERRUPTED, "Stopped")
        return _told_first(next_attempt(draft), child)
    if child is None:
        return _without_job(draft, record)
    if record.uid is None:
        record = _change(draft, uid=child.uid)
    pods = [pod for pod in draft.seen.pods if pod.child == child.uid]
    if child.finished:
        if Ask.PODS not in draft.seen.confirmed and not any(map(tells, pods)):
            return draft.ask(Ask.PODS)
        return _ended(draft, ending(child, pods))
    return _alive(draft, record, child, pods)


def _change(draft: Draft, **fields: Any) -> Preflight:
    record = draft.status.preflight
    assert record is not None
    changed = record.model_copy(update=fields)
    draft.update(preflight=changed)
    return changed


def _close(draft: Draft, outcome: CheckOutcome, reason: str, message: str = "") -> None:
    words = clip(message, 2000) or None
    _change(draft, outcome=outcome, reason=reason, message=words, end_time=draft.time)


def _reserve(draft: Draft) -> Decision:
    """A check exists in status before its Job does, as an attempt does."""
    old = draft.status.preflight
    number = old.number + 1 if old else 1
    record = Preflight(
        number=number,
        job_name=check_name(draft.job.key.name, number),
        reserved_time=draft.time,
        reason=old.reason if old else None,
        message=old.message if old else None,
        failures=old.failures if old else 0,
        interruptions=old.interruptions if old else 0,
    )
    draft.update(preflight=record, start_time=draft.status.start_time or draft.time)
    return draft.decided(_checking(draft))


def _checking(draft: Draft) -> Standing:
    gpus = draft.spec.resources.gpus
    words = (
        f'data set "{draft.spec.dataset.name}" and network are checked before '
        f"{'a GPU is' if gpus == 1 else 'GPUs are'} asked for"
    )
    record = draft.status.preflight
    if record is not None and record.number > 1:
        words += f"; check {record.number}, since the one before ended ({record.reason})"
    return Standing(Phase.CHECKING, "Checking", words)


def _ending_check(draft: Draft) -> Decision:
    words = "the check of the data set is ending"
    standing = Standing(Phase.CHECKING, "Ending", words, suspending=draft.spec.suspend)
    return draft.decided(standing)


def _blocked(obstacle: Obstacle) -> Standing:
    words = f"the check before the first attempt can't start: {obstacle.message}"
    if obstacle.reason == "Unschedulable":
        words += f" After {ROOM_PATIENCE:.0f} s the job goes on without it."
    if obstacle.reason in _FOR_WANT_OF_ROOM:
        words += " A new TrainingJob with preflight: Never has no check."
    return Standing(Phase.BLOCKED, obstacle.reason, words)


def _without_job(draft: Draft, record: Preflight) -> Decision:
    seen, spec = draft.seen, draft.spec
    if record.uid is None and not spec.suspend:
        if seen.refusal is not None:
            draft.again_after(LOOK_AGAIN)
            return draft.decided(_blocked(seen.refusal))
        draft.actions.append(CreateChild(_job(draft, record)))
        return draft.decided(_checking(draft))
    if Ask.CHECK not in seen.confirmed:
        return draft.ask(Ask.CHECK)
    pods = [pod for pod in seen.pods if pod.child is not None and pod.child == record.uid]
    if any(not pod.ended for pod in pods):
        if Ask.PODS not in seen.confirmed:
            return draft.ask(Ask.PODS)
        draft.again_after(5)
        return _ending_check(draft)
    return _ended(draft, ending(None, pods))


def _job(draft: Draft, record: Preflight) -> Raw:
    image = draft.settings.image
    return check_job(draft.job, draft.spec, number=record.number, image=image)


def _ended(draft: Draft, end: Ending) -> Decision:
    """The check's Job has finished, or is gone."""
    record, suspended = draft.status.preflight, draft.spec.suspend
    assert record is not None
    _change(draft, node=end.node or record.node)
    if end.outcome is Outcome.SUCCEEDED:
        _close(draft, CheckOutcome.PASSED, "Passed", end.told.message if end.told else "")
        return next_attempt(draft)
    # Without its words it was no check of ours: an image that is too old for it ends so, too.
    if end.outcome is Outcome.PERMANENT and end.told is not None:
        _close(draft, CheckOutcome.FAILED, end.reason, end.message)
        return fail(draft, end.reason, end.message)
    if end.outcome is Outcome.INTERRUPTED:
        if suspended:
            _close(draft, CheckOutcome.INTERRUPTED, "Suspended", end.message)
            return next_attempt(draft)
        record = _change(draft, interruptions=record.interruptions + 1)
        if record.interruptions >= MAX_INTERRUPTIONS:
            times = f"interrupted {record.interruptions} times"
            return _skip(draft, end.reason, f"{times}, the last time: {end.message}")
    else:
        record = _change(draft, failures=record.failures + 1)
        if record.failures >= MAX_FAILURES:
            times = f"failed {record.failures} times"
            return _skip(draft, end.reason, f"{times}, the last time ({end.reason}): {end.message}")
    _close(draft, CheckOutcome.INTERRUPTED, end.reason, end.message)
    return next_attempt(draft) if suspended else _reserve(draft)


def _skip(draft: Draft, reason: str, why: str) -> Decision:
    """Nothing is wrong with the data, as far as anyone knows: the trainer itself will look."""
    words = f"the check before the first attempt {why}. Going on without it"
    _close(draft, CheckOutcome.SKIPPED, reason, words)
    return next_attempt(draft)


def _told_first(decision: Decision, child: Child | None) -> Decision:
    """A check that still runs is ended after status says that it no longer counts."""
    kept = [a for a in decision.actions if not (isinstance(a, DeleteChild) and _is(a, child))]
    return replace(decision, actions=tuple(kept))


def _is(action: DeleteChild, child: Child | None) -> bool:
    return child is not None and action.uid == child.uid


def _alive(draft: Draft, record: Preflight, child: Child, pods: list[Pod]) -> Decision:
    suspend = draft.spec.suspend
    known = draft.before.preflight is not None and draft.before.preflight.uid is not None
    begun = record.start_time is not None or any(pod.started_at for pod in pods)
    # One that waits is made anew where the spec now asks for another pod.
    anew = known and not begun and of_another_spec(draft, child, lambda: _job(draft, record))
    if (suspend or anew) and not child.deleting:
        draft.actions.append(DeleteChild(child.name, child.uid))
    if suspend or anew or child.deleting:
        draft.again_after(LOOK_AGAIN)
        return _ending_check(draft)
    if any(pod.ended or pod.exit_code is not None for pod in pods):
        # How it ended is decided when the Job controller has counted it.
        draft.again_after(LOOK_AGAIN)
        return draft.unchanged()
    pod = max(pods, key=lambda one: one.created, default=None)
    if pod is not None and pod.running:
        if record.start_time is None:
            _change(draft, start_time=pod.started_at, node=pod.node)
        return draft.decided(_checking(draft))
    if pod is None and record.start_time is not None:
        draft.again_after(LOOK_AGAIN)
        return draft.unchanged()
    spec = errand_spec(draft.spec, CHECK_ASKS)
    found = hold_up(draft, spec, draft.settings.image, child, pod)
    if isinstance(found, Ask):
        return draft.ask(found)
    if found is None:
        return draft.decided(_checking(draft))
    if found.reason == "Unschedulable" and not draft.again_at(child.created, ROOM_PATIENCE):
        decision = _skip(draft, found.reason, f"found no node within {ROOM_PATIENCE:.0f} s")
        return _told_first(decision, child)
    return draft.decided(_blocked(found))
