"""Why the pod of a Job beside the attempts does not run yet."""

from __future__ import annotations

from kubeseg_operator import obstacles
from kubeseg_operator.decide.attempt import (
    CONTROLLER_PATIENCE,
    FIRST_LOOK,
    LOOK_AGAIN,
    PATIENCE,
)
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.model import Ask
from kubeseg_operator.obstacles import Obstacle
from kubeseg_operator.views import Child, Pod
from kubeseg_types.spec import TrainingJobSpec


def hold_up(
    draft: Draft, spec: TrainingJobSpec, image: str, child: Child, pod: Pod | None
) -> Obstacle | Ask | None:
    """What keeps `child`'s pod (with this `spec` and image) from running; None: nothing that is
    known; an Ask: that has to be read first. Comes again where no watch would tell.
    """
    if pod is None:
        return _without_pod(draft, child)
    obstacle = obstacles.of_pod(pod, spec, image)
    if obstacle is not None or not pod.scheduled_at:
        return obstacle
    if draft.again_at(pod.scheduled_at, PATIENCE):
        return None
    if Ask.POD_EVENTS not in draft.seen.confirmed:
        return Ask.POD_EVENTS
    draft.again_after(LOOK_AGAIN)
    return obstacles.of_volumes(draft.seen.events)


def _without_pod(draft: Draft, child: Child) -> Obstacle | Ask | None:
    if child.started is None:
        # In a burst the Job controller needs minutes: that is no obstacle yet.
        if draft.again_at(child.created, CONTROLLER_PATIENCE):
            return None
        return obstacles.no_controller(child)
    if draft.again_at(child.started, FIRST_LOOK):
        return None
    if Ask.CHILD_EVENTS not in draft.seen.confirmed:
        return Ask.CHILD_EVENTS
    obstacle = obstacles.no_pod(draft.seen.events)
    if obstacle is None and draft.again_at(child.started, PATIENCE):
        return None
    draft.again_after(LOOK_AGAIN)
    return obstacle or obstacles.silent(child)
