"""A node that does not answer: named at once, and after a stated time no longer waited for.

Kubernetes evicts such a pod after some minutes, but its object stays until the node confirms the
end, and with it the Job. The operator finishes what Kubernetes has begun, where that is safe: the
pod has been evicted or deleted, its grace period is long over, and the workspace is ReadWriteMany.
A trainer that still runs behind a broken network then writes into a folder of its own, and stops
as soon as it sees the newer start. A ReadWriteOnce volume must not be taken from a node that may
still write to it: there a person has to say that the node is off.
"""

from __future__ import annotations

from kubeseg_operator.clock import parse
from kubeseg_operator.conditions import Standing
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.model import Ask, Decision, DeleteChild, DeletePod
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.status import Attempt, Phase

#: Seconds after the end of its grace period that a pod's node has to confirm it.
SLACK = 30.0
#: Seconds after it without any word, after which its node counts as one that does not answer.
OVERDUE = 60.0
#: Seconds between looks: the watches tell of most changes.
LOOK_AGAIN = 15.0
REASON = "NodeLost"


def on_a_lost_node(
    draft: Draft, attempt: Attempt, child: Child | None, pods: list[Pod]
) -> Decision | None:
    """The decision on an attempt with pods on a node that does not answer; None where none is."""
    quiet = {pod.uid: _quiet_since(draft, pod) for pod in pods if not pod.ended}
    lost = [pod for pod in pods if quiet.get(pod.uid)]
    if not lost:
        return None
    draft.again_after(LOOK_AGAIN)
    pod = min(lost, key=lambda one: quiet[one.uid] or "")
    since = quiet[pod.uid]
    words = f'node "{pod.node}" does not answer since {since}; attempt {attempt.number} '
    limit = draft.settings.lost_node_seconds
    if not all(one.deleting for one in lost):
        words += "may still run there. Kubernetes evicts its pod, by default after 5 minutes"
    elif not limit:
        words += f"is waited for until the node answers. {_remedy(pod)}"
    elif draft.again_at(since, limit) or draft.again_at(pod.due, min(SLACK, limit)):
        words += f"is waited for until it has not answered for {limit:.0f} s"
    elif Ask.CLAIM not in draft.seen.confirmed:
        return draft.ask(Ask.CLAIM)
    elif _shared(draft.seen.answers.get(Ask.CLAIM, ())):
        words += "is given up: its pod is removed, and the next attempt goes on from the checkpoint"
        if child is not None and not child.deleting:
            # The Job controller lets go of a pod only when it has failed, or its Job is leaving.
            draft.actions.append(DeleteChild(child.name, child.uid))
        draft.actions += [DeletePod(one.name, one.uid) for one in lost if not one.forced]
    else:
        claim = draft.spec.workspace.claim_name
        words += (
            f'is waited for, since workspace claim "{claim}" is not known to be ReadWriteMany: '
            f"the node may still write to it. {_remedy(pod)}"
        )
    phase = Phase.RUNNING if attempt.start_time else Phase.STARTING
    standing = Standing(phase, REASON, words, suspending=draft.spec.suspend, explain=True)
    return draft.decided(standing)


def _quiet_since(draft: Draft, pod: Pod) -> str | None:
    """Since when its node has not answered, if it hasn't.

    Of a pod that its kubelet never reported on nobody takes readiness away: there it shows when
    the deletion is not confirmed.
    """
    if pod.unanswered or pod.node is None or pod.exit_code is not None or not parse(pod.due):
        return pod.unanswered
    return None if draft.again_at(pod.due, OVERDUE) else pod.due


def _remedy(pod: Pod) -> str:
    return (
        "Once it is surely off: kubectl taint node "
        f"{pod.node} node.kubernetes.io/out-of-service=:NoExecute"
    )


def _shared(answer: tuple[Raw, ...]) -> bool:
    return any(
        "ReadWriteMany" in ((one.get("spec") or {}).get("accessModes") or []) for one in answer
    )
