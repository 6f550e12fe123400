"""Why a Job's pod does not run yet: the one cause that matters, or what to read to know it."""

from __future__ import annotations

from kubeseg_operator import images, obstacles, volumes
from kubeseg_operator.clock import add, parse, stamp
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.model import Ask
from kubeseg_operator.nodes import Node, node_of
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.views import Child, Pod
from kubeseg_types.spec import TrainingJobSpec

#: Seconds that a Job may be without a pod, or a pod on its node without a container.
PATIENCE = 15.0
#: Seconds after which a Job without a pod is looked at for a reason, and after which one that the
#: Job controller has not taken up is reported, where it takes up no other either.
FIRST_LOOK, CONTROLLER_PATIENCE = 3.0, 120.0
#: Seconds that a scheduler may take for a first look: one that the user names, and the cluster's
#: own, which in a burst of thousands needs minutes.
SCHEDULER_PATIENCE, BURST_PATIENCE = 30.0, 120.0
#: Seconds that others may be served before it.
LONGEST_BUSY = 1800.0
#: Seconds between looks at what is being waited for, where no watch would tell.
LOOK_AGAIN = 15.0


def hold_up(
    draft: Draft, spec: TrainingJobSpec, image: str, child: Child, pod: Pod | None
) -> Obstacle | Ask | None:
    """What keeps `child`'s pod (with this `spec` and image) from running; None: nothing that is
    known; an Ask: that has to be read first. Comes again where no watch would tell. A `spec` that
    is not the draft's own is that of an errand.
    """
    if pod is None:
        return _without_pod(draft, spec, child)
    if pod.unschedulable is not None:
        return _unschedulable(draft, spec, pod.unschedulable)
    if pod.gated:
        return obstacles.gated(pod)
    if images.waits(pod) and Ask.POD_EVENTS not in draft.seen.confirmed:
        # The kubelet tells of each try in the pod's status: no need to come again by oneself.
        return Ask.POD_EVENTS
    obstacle = obstacles.of_pod(pod, spec, image, draft.seen.events)
    if obstacle is not None:
        return obstacle
    if pod.scheduled_at:
        return _hanging(draft, spec, pod, pod.scheduled_at)
    patience = SCHEDULER_PATIENCE if spec.scheduler_name else BURST_PATIENCE
    if spec.resource_claims:
        patience = PATIENCE
    waits = pod.node is None and not pod.deleting
    since = pod.created
    if patience == BURST_PATIENCE:
        since = _since(since, draft.seen.last_placed)
    if waits and not draft.again_at(since, patience):
        return obstacles.not_taken_up(pod, spec)
    return None


def _since(waits: str, others: str) -> str:
    """From when patience counts: it `waits` since then, or others were served since, within reason:
    what is passed over for long has another trouble.
    """
    created = parse(waits)
    if created is None:
        return waits
    return max(waits, min(others, stamp(add(created, LONGEST_BUSY))))


def _without_pod(draft: Draft, spec: TrainingJobSpec, child: Child) -> Obstacle | Ask | None:
    if child.started is None:
        # In a burst the Job controller needs minutes: that is no obstacle yet. One that waited in
        # a queue is taken up when it is admitted, which is when the deadline's clock began.
        admitted = draft.status.start_time if draft.spec.queue_name is not None else None
        since = _since(max(child.created, admitted or ""), draft.seen.last_taken_up)
        if draft.again_at(since, CONTROLLER_PATIENCE):
            return None
        return obstacles.no_controller(child)
    if draft.again_at(child.started, FIRST_LOOK):
        return None
    if Ask.CHILD_EVENTS not in draft.seen.confirmed:
        return Ask.CHILD_EVENTS
    obstacle = obstacles.no_pod(draft.seen.events, spec, errand=spec is not draft.spec)
    if obstacle is None and draft.again_at(child.started, PATIENCE):
        return None
    if obstacle is None and Ask.PODS not in draft.seen.confirmed:
        # It may be there, and have lost the label that it is watched by.
        return Ask.PODS
    draft.again_after(LOOK_AGAIN)
    return obstacle or obstacles.silent(child)


def _unschedulable(draft: Draft, spec: TrainingJobSpec, words: str) -> Obstacle | Ask:
    seen, wish = draft.seen, spec.resources
    if volumes.unbound(words):
        for question in (Ask.CLAIM, Ask.CLAIM_EVENTS):
            if question not in seen.confirmed:
                return question
    claim, events = seen.answers.get(Ask.CLAIM, ()), seen.answers.get(Ask.CLAIM_EVENTS, ())
    obstacle = volumes.of_claim(words, spec, claim, events)
    if obstacle is not None:
        return obstacle
    # Schedulers of these days don't name the taints.
    lacking = "untolerated taint" in words
    lacking |= wish.gpus > 0 and f"Insufficient {wish.gpu_resource}" in words
    if lacking and Ask.NODES not in seen.confirmed:
        return Ask.NODES
    nodes = [_node(raw) for raw in seen.answers.get(Ask.NODES, ())]
    errand = spec is not draft.spec
    return obstacles.unschedulable(words, spec, nodes, errand=errand)


def _node(raw: dict[str, object]) -> Node:
    held = raw.get("held")
    return node_of(raw, held if isinstance(held, dict) else None)


def _hanging(
    draft: Draft, spec: TrainingJobSpec, pod: Pod, scheduled_at: str
) -> Obstacle | Ask | None:
    if draft.again_at(scheduled_at, PATIENCE):
        return None
    if Ask.POD_EVENTS not in draft.seen.confirmed:
        return Ask.POD_EVENTS
    draft.again_after(LOOK_AGAIN)
    return obstacles.of_events(draft.seen.events, pod, spec)
