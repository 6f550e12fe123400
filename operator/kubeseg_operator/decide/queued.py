"""An attempt whose Job is suspended: Kueue decides when it goes on, and the operator never does."""

from __future__ import annotations

from kubeseg_operator import admission
from kubeseg_operator.clock import parse
from kubeseg_operator.conditions import Standing
from kubeseg_operator.decide.draft import Draft, starting
from kubeseg_operator.decide.model import Ask, Decision
from kubeseg_operator.progress import fold_ending
from kubeseg_operator.views import Child, Pod
from kubeseg_types.status import Attempt, Phase

#: Seconds after which a Job that nobody has admitted counts as waiting.
FIRST_LOOK = 3.0
LOOK_AGAIN = 15.0


def wait_in_queue(draft: Draft, attempt: Attempt, child: Child, live: list[Pod]) -> Decision:
    """The attempt's Job is suspended, and not by the user's `suspend`, which deletes it."""
    queue = draft.spec.queue_name
    if queue is None:
        draft.again_after(LOOK_AGAIN)
        words = (
            f"Job {child.name} was suspended by somebody else. If Kueue has done it, name its "
            "queue in spec.queueName of a new TrainingJob; else set the Job's spec.suspend to "
            "false, or delete the Job: the next attempt makes it anew."
        )
        return draft.decided(Standing(Phase.BLOCKED, "JobSuspended", words))
    if attempt.queued_time is None:
        if attempt.start_time is None and draft.again_at(child.created, FIRST_LOOK):
            # Kueue admits within a second where there is room: that needs no telling.
            return draft.decided(starting(attempt))
        attempt = _begin(draft, attempt)
    # As of a suspended Job, the deadline's clock stops.
    draft.update(start_time=None)
    if live:
        if Ask.PODS not in draft.seen.confirmed:
            # A store that missed their end would contradict, for minutes, one that knows of it.
            return draft.ask(Ask.PODS)
        draft.again_after(LOOK_AGAIN)
        words = f'attempt {attempt.number} lost its place in queue "{queue}": its pods are ending'
        return draft.decided(Standing(Phase.QUEUED, "Preempted", words))
    if Ask.WORKLOAD not in draft.seen.confirmed:
        return draft.ask(Ask.WORKLOAD)
    obstacle = admission.waiting(draft.seen.workload or admission.Found(), queue)
    draft.again_after(admission.pause(_waited(draft, attempt)))
    words = f"attempt {attempt.number} {obstacle.message}"
    if obstacle.reason == "NoKueue":
        words = obstacle.message
    return draft.decided(Standing(Phase.QUEUED, obstacle.reason, words))


def _begin(draft: Draft, attempt: Attempt) -> Attempt:
    """From now on it waits; one that had begun was preempted, and goes on later."""
    if attempt.start_time is None:
        return draft.replace_last(queued_time=draft.time)
    key = draft.job.key
    draft.status = fold_ending(draft.status, None, job=key.name, uid=draft.job.uid, now=draft.now)
    return draft.replace_last(queued_time=draft.time, preemptions=(attempt.preemptions or 0) + 1)


def _waited(draft: Draft, attempt: Attempt) -> float:
    since = parse(attempt.queued_time)
    return (draft.now - since).total_seconds() if since else 0.0


def admitted(draft: Draft, attempt: Attempt) -> Attempt:
    """The attempt's Job is not suspended: what it waited is recorded, once."""
    if attempt.queued_time is None:
        return attempt
    if draft.status.start_time is None:
        draft.update(start_time=draft.time)
    waited = attempt.queued_seconds
    if attempt.start_time is not None:
        waited = (waited or 0) + round(_waited(draft, attempt))
    return draft.replace_last(queued_time=None, queued_seconds=waited)


def since_admission(draft: Draft, child: Child, pods: list[Pod]) -> list[Pod]:
    """Without the pods that Kueue has taken away: they tell nothing of how the attempt stands."""
    if draft.spec.queue_name is None:
        return pods
    # The two times are of two clocks: one that lives is this admission's whatever they say.
    return [
        pod
        for pod in pods
        if not (pod.ended or pod.deleting) or (child.started and pod.created >= child.started)
    ]


def has_begun(attempt: Attempt, child: Child, *, queued: bool) -> bool:
    """Whether its trainer ran, since Kueue admitted it last."""
    if attempt.start_time is None:
        return False
    # A Job that is admitted anew has no start until its controller has taken it up.
    return not queued or (child.started is not None and child.started <= attempt.start_time)
