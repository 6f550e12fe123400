"""An attempt that has not ended: its Job is made, followed, ended."""

from __future__ import annotations

from dataclasses import replace

from kubeseg_operator import obstacles
from kubeseg_operator.builders import config_text, owner_reference
from kubeseg_operator.cause import newest_of_each, nodes_of
from kubeseg_operator.clock import parse
from kubeseg_operator.conditions import Standing, condition, meaningful
from kubeseg_operator.decide import drift, edits, lost, memory
from kubeseg_operator.decide.draft import Draft, starting
from kubeseg_operator.decide.ends import ended, fail
from kubeseg_operator.decide.holdup import LOOK_AGAIN, PATIENCE, hold_up
from kubeseg_operator.decide.model import (
    Ask,
    CreateChild,
    Decision,
    DeleteChild,
    EnsureService,
    PatchConfig,
)
from kubeseg_operator.decide.queued import (
    admitted,
    has_begun,
    since_admission,
    wait_in_queue,
)
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.outcome import Ending, ending, explained, tells, unexplained
from kubeseg_operator.progress import fold
from kubeseg_operator.rendezvous import RENDEZVOUS_SECONDS, headless_service
from kubeseg_operator.views import Child, Pod, config_hash
from kubeseg_types.exit_codes import Outcome
from kubeseg_types.status import Attempt, ConditionType, Phase

#: Why a job is blocked whose spec this version can't follow.
INVALID_SPEC = "InvalidSpec"


def follow(draft: Draft, attempt: Attempt) -> Decision:
    """Decide on the attempt that has not ended."""
    child = draft.child_of(attempt)
    pods = draft.pods_of(attempt, child)
    fold_report(draft, attempt)
    attempt = draft.active or attempt
    draft.end_strays(keep=child)
    if child is None:
        return _without_job(draft, attempt, pods)
    if attempt.uid is None:
        attempt = draft.replace_last(uid=child.uid)
    if child.finished:
        # The pods that Kueue had taken away before don't tell how it ended.
        current = since_admission(draft, child, pods)
        if _some_silent(draft, child, current):
            if Ask.PODS not in draft.seen.confirmed:
                return draft.ask(Ask.PODS)
            current = pods  # clocks differ, or the last pod is gone without a word
        if unexplained(current) and Ask.END_EVENTS not in draft.seen.confirmed:
            return draft.ask(Ask.END_EVENTS)
        current = explained(current, draft.seen.answers.get(Ask.END_EVENTS, ()))
        end = ending(child, current, workers=draft.spec.workers)
        return ended(draft, _as_asked(draft, attempt, end))
    return _alive(draft, attempt, child, pods)


def fold_report(draft: Draft, attempt: Attempt) -> None:
    """Take in what its trainer told last, where that is of this attempt."""
    report = draft.seen.progress
    if report is None or report.attempt != attempt.number or report.uid != draft.job.uid:
        return
    unread = report.state == "Starting" or (report.state == "Finished" and report.epoch == 0)
    if unread and draft.status.progress is not None:
        # It has yet to load its checkpoint, or ended before it had: what was known before counts.
        return
    key = draft.job.key
    draft.status, pause = fold(draft.status, report, job=key.name, uid=draft.job.uid, now=draft.now)
    if pause is not None:
        draft.again_after(pause)
    if attempt.start_epoch is None and report.state != "Starting":
        draft.replace_last(start_epoch=report.start_epoch)


def _some_silent(draft: Draft, child: Child | None, pods: list[Pod]) -> bool:
    """Not every worker's pod tells how it ended: the one that does may only have followed, and one
    from before the Job was suspended and went on tells nothing of its end.
    """
    since = (child.started if child else None) or ""
    telling = [pod for pod in newest_of_each(pods) if tells(pod) and pod.created >= since]
    return len(telling) < draft.spec.workers


def _as_asked(draft: Draft, attempt: Attempt, end: Ending) -> Ending:
    """An interruption that the user asked for bears that name."""
    if end.outcome is Outcome.INTERRUPTED and attempt.reason == edits.SPEC_CHANGED:
        return replace(end, reason=attempt.reason, message="the spec asks for other pods")
    if end.outcome is Outcome.INTERRUPTED and (draft.spec.suspend or draft.spec.stop):
        reason = "Suspended" if draft.spec.suspend else "Stopped"
        return replace(end, reason=reason)
    return end


def _without_job(draft: Draft, attempt: Attempt, pods: list[Pod]) -> Decision:
    spec, seen = draft.spec, draft.seen
    if attempt.uid is None and not spec.suspend and not (spec.stop and draft.epoch == 0):
        if seen.refusal is not None:
            draft.again_after(LOOK_AGAIN)
            return draft.decided(_blocked(seen.refusal))
        _ensure_service(draft)
        draft.actions.append(CreateChild(edits.wanted_job(draft, attempt)))
        return draft.decided(starting(attempt))
    if Ask.CHILD not in seen.confirmed:
        return draft.ask(Ask.CHILD)
    if Ask.PODS not in seen.confirmed and (
        any(not pod.ended for pod in pods) or _some_silent(draft, None, pods)
    ):
        return draft.ask(Ask.PODS)
    if any(not pod.ended for pod in pods):
        gone_quiet = lost.on_a_lost_node(draft, attempt, None, pods)
        if gone_quiet is not None:
            return gone_quiet
        draft.again_after(5)
        return draft.decided(
            Standing(
                Phase.STARTING,
                "Ending",
                f"the Job of attempt {attempt.number} is gone; its pod still ends",
                suspending=spec.suspend,
            )
        )
    return ended(draft, _as_asked(draft, attempt, ending(None, pods, workers=spec.workers)))


def _ensure_service(draft: Draft) -> None:
    """Several workers find each other by it."""
    if draft.spec.workers > 1:
        manifest = headless_service(draft.job, owner_reference(draft.job))
        draft.actions.append(EnsureService(manifest))


def _blocked(obstacle: Obstacle, prefix: str = "", workers: str = "") -> Standing:
    return Standing(Phase.BLOCKED, obstacle.reason, prefix + obstacle.message, workers=workers)


def _alive(draft: Draft, attempt: Attempt, child: Child, pods: list[Pod]) -> Decision:
    """The attempt's Job has not finished."""
    spec = draft.spec
    live = [pod for pod in pods if not pod.ended]
    begun = attempt.start_time is not None or any(pod.started_at for pod in pods)
    if spec.stop and not begun and draft.epoch == 0 and not child.deleting:
        if Ask.PODS not in draft.seen.confirmed:
            return draft.ask(Ask.PODS)
        return fail(
            draft,
            "StoppedBeforeFirstEpoch",
            "spec.stop is true, and the trainer had not begun: there is no model. Make a new "
            "TrainingJob to train.",
        )
    if spec.suspend and not child.deleting:
        known = draft.before.attempts[-1].uid is not None
        after = draft.decided(_leaving(draft, attempt, child, live)).status
        if known or not meaningful(draft.before, after):
            draft.actions.append(DeleteChild(child.name, child.uid))
        # Else its UID goes into status first: after a crash in between, the Job that was deleted
        # would look like one that was never made, and be made again.
    elif not child.deleting:
        first = _keep_up(draft, attempt, child, pods)
        if first is not None:
            return first
    gone_quiet = lost.on_a_lost_node(draft, attempt, child, live)
    if gone_quiet is not None:
        return gone_quiet
    if child.deleting or spec.suspend:
        draft.again_after(LOOK_AGAIN)
        return draft.decided(_leaving(draft, attempt, child, live))
    if child.suspended:
        return wait_in_queue(draft, attempt, child, live)
    attempt = admitted(draft, attempt)
    # The newest of each worker: where others suspended the Job, or had it make more pods, there
    # are older and surplus ones.
    last_end = max((pod.ended_at or "" for pod in pods), default="")
    pods = newest_of_each(since_admission(draft, child, pods))
    if not pods and (live or draft.again_at(last_end, PATIENCE)):
        # Those that Kueue has taken away are replaced once they have ended.
        draft.again_after(LOOK_AGAIN)
        return draft.decided(starting(attempt))
    pods = [pod for pod in pods if pod.index < spec.workers]
    live = [pod for pod in pods if not pod.ended]
    if any(pod.ended or pod.exit_code is not None for pod in pods):
        # Its trainer has ended; how, is decided when the Job controller has counted it.
        return _as_before(draft, attempt)
    return _standing(draft, attempt, child, live)


def _as_before(draft: Draft, attempt: Attempt) -> Decision:
    """Nothing new is known of where it stands; but a queue that has admitted it is behind it, and
    so is a spec that could not be followed.
    """
    draft.again_after(LOOK_AGAIN)
    blocked = condition(draft.before, ConditionType.BLOCKED)
    held = blocked is not None and (blocked.status, blocked.reason) == ("True", INVALID_SPEC)
    if held or draft.before.phase is Phase.QUEUED:
        return draft.decided(starting(attempt))
    return draft.unchanged()


def _keep_up(draft: Draft, attempt: Attempt, child: Child, pods: list[Pod]) -> Decision | None:
    """Have the Job and its pods be as they should; a decision where something comes before."""
    anew = edits.made_anew(draft, attempt, child, pods)
    if anew is not None:
        return anew
    if drift.out_of_sight(draft, attempt, child, pods) and Ask.PODS not in draft.seen.confirmed:
        return draft.ask(Ask.PODS)
    live = [pod for pod in pods if not pod.ended]
    _bring_config(draft, attempt, live)
    drift.put_right(draft, attempt, child)
    drift.put_pods_right(draft, attempt, live)
    return None


def _bring_config(draft: Draft, attempt: Attempt, live: list[Pod]) -> None:
    readers = [pod for pod in live if not pod.deleting]
    if not readers:
        # In a burst most visits are like this: the text is not made for nobody.
        return
    text = config_text(draft.job, draft.spec, attempt.number)
    wanted = config_hash(text)
    for pod in readers:
        if pod.config_hash != wanted:
            draft.actions.append(PatchConfig(pod.name, pod.uid, text))


def _leaving(draft: Draft, attempt: Attempt, child: Child, live: list[Pod]) -> Standing:
    begun = attempt.start_time and not attempt.queued_time
    phase = Phase.RUNNING if begun else Phase.STARTING
    words = f"attempt {attempt.number} is ending"
    if child.deleting and child.finalizers and not live:
        names = ", ".join(child.finalizers[:3])
        words += f": no pod is left, but Job {child.name} is held by the finalizer {names}; whoever"
        words += " set it has to take it away"
    return Standing(phase, "Ending", words, suspending=draft.spec.suspend)


def _standing(draft: Draft, attempt: Attempt, child: Child, live: list[Pod]) -> Decision:
    """How far the attempt's pods have come: as far as the one that is behind."""
    settings, spec = draft.settings, draft.spec
    latest = newest_of_each(live)
    running = [pod for pod in latest if pod.running]
    _watch_over_service(draft, attempt, child)
    if draft.seen.refusal is not None:
        draft.again_after(LOOK_AGAIN)
        return draft.decided(_blocked(draft.seen.refusal))
    if len(running) >= spec.workers:
        return _running(draft, attempt, child, running)
    pod = _behind(draft, latest)
    if pod is None:
        return _without_pod(draft, attempt, child, latest)
    found = hold_up(draft, spec, settings.image, child, pod)
    if isinstance(found, Ask):
        return draft.ask(found)
    if found is not None:
        return draft.decided(_blocked(found, *_so_far(draft, latest, pod.index)))
    return draft.decided(starting(attempt))


def _running(draft: Draft, attempt: Attempt, child: Child, pods: list[Pod]) -> Decision:
    """All workers' containers run."""
    workers, node = draft.spec.workers, nodes_of(pods)
    if attempt.start_time is None:
        begun = max(pod.started_at or "" for pod in pods) or None
        attempt = draft.replace_last(start_time=begun)
    if attempt.node != node:
        attempt = draft.replace_last(node=node)
    where = f" on node{'s' if ',' in node else ''} {node}" if node else ""
    words = f"attempt {attempt.number} runs{where}, {origin(draft, attempt)}"
    words += memory.since_a_kill(draft) + edits.on_its_way(draft, attempt, child)
    if attempt.preemptions:
        words += f", preempted {attempt.preemptions}×"
    told = f"{workers}/{workers}" if workers > 1 else ""
    return draft.decided(Standing(Phase.RUNNING, "TrainerRunning", words, workers=told))


def _behind(draft: Draft, latest: list[Pod]) -> Pod | None:
    """The pod that the others wait for; of several, one that is held up; None: one isn't made."""
    waiting = [pod for pod in latest if not pod.running]
    for pod in waiting:
        if pod.unschedulable is not None or pod.gated:
            return pod
        if obstacles.of_pod(pod, draft.spec, draft.settings.image) is not None:
            return pod
    if len(latest) < draft.spec.workers:
        return None
    # Of those on a node the one that came there first has had the most time.
    return min(waiting, key=lambda pod: (pod.scheduled_at is None, pod.scheduled_at or ""))


def _so_far(draft: Draft, latest: list[Pod], index: int) -> tuple[str, str]:
    """What stands before an obstacle of worker `index`, and in kubectl's column; "" of one."""
    workers = draft.spec.workers
    if workers == 1:
        return "", ""
    count = sum(pod.running for pod in latest)
    return f"{count} of {workers} workers run; worker {index}: ", f"{count}/{workers}"


def _watch_over_service(draft: Draft, attempt: Attempt, child: Child) -> None:
    """While workers that should have met long ago have not, their Service is looked at."""
    if draft.spec.workers == 1 or attempt.start_epoch is not None:
        return
    since = attempt.start_time or child.started
    begun = parse(since)
    if begun is None or draft.again_at(since, PATIENCE):
        return
    if (draft.now - begun).total_seconds() < RENDEZVOUS_SECONDS:
        _ensure_service(draft)
        draft.again_after(LOOK_AGAIN)


def _without_pod(draft: Draft, attempt: Attempt, child: Child, latest: list[Pod]) -> Decision:
    """A worker has no pod."""
    if has_begun(attempt, child, queued=draft.spec.queue_name is not None):
        return _as_before(draft, attempt)
    found = hold_up(draft, draft.spec, draft.settings.image, child, None)
    if isinstance(found, Ask):
        return draft.ask(found)
    if found is None:
        return draft.decided(starting(attempt))
    there = {pod.index for pod in latest}
    index = next(n for n in range(draft.spec.workers) if n not in there)
    so_far = _so_far(draft, latest, index)
    return draft.decided(_blocked(found, *so_far))


def origin(draft: Draft, attempt: Attempt) -> str:
    """Where an attempt began, in words."""
    if attempt.start_epoch is not None:
        return f"from epoch {attempt.start_epoch}" if attempt.start_epoch else "from scratch"
    if attempt.number == 1:
        return "from scratch"
    progress = draft.before.progress
    pointer = progress.checkpoint if progress else None
    return f"from the checkpoint of epoch {pointer.epoch}" if pointer else "from scratch"
