"""A change of the spec on its way: to a trainer that runs, or to pods that are made of it."""

from __future__ import annotations

from collections.abc import Callable

from kubeseg_operator.builders import child_job
from kubeseg_operator.conditions import Standing
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.holdup import LOOK_AGAIN
from kubeseg_operator.decide.model import Ask, Decision, DeleteChild
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.names import ANNOTATION_TEMPLATE
from kubeseg_types.status import Attempt, Phase

#: Why an attempt ended that had not begun when the pods it asks for were changed.
SPEC_CHANGED = "SpecChanged"


def on_its_way(draft: Draft, attempt: Attempt, child: Child) -> str:
    """What to add to the words about a running trainer until it has taken up the newest spec."""
    if of_another_spec(draft, child, lambda: wanted_job(draft, attempt)):
        return (
            "; its pods are those of an older spec: what has changed of them since counts from the "
            "next attempt, or once it was suspended and resumed"
        )
    if attempt.start_epoch is None:
        # It has reported nothing yet: what is known is of the attempt before.
        return ""
    progress, generation = draft.status.progress, draft.job.generation
    seen = progress.trainer_generation if progress else None
    if seen is None or seen >= generation:
        return ""
    return (
        f"; it has been sent generation {generation} of the spec, and takes it up at the end of "
        "this epoch"
    )


def made_anew(draft: Draft, attempt: Attempt, child: Child, pods: list[Pod]) -> Decision | None:
    """Ends an attempt that has not begun where the spec now asks for other pods."""
    known = draft.before.attempts[-1].uid is not None
    waits = any(pod.started_at for pod in pods) and draft.spec.workers == 1
    # Before its UID is in status a Job that was deleted looks like one that was never made.
    if attempt.start_time is not None or waits or not known:
        return None
    if not of_another_spec(draft, child, lambda: wanted_job(draft, attempt)):
        return None
    if Ask.PODS not in draft.seen.confirmed:
        # The store may not have heard yet that it trains.
        return draft.ask(Ask.PODS)
    draft.actions.append(DeleteChild(child.name, child.uid))
    draft.replace_last(reason=SPEC_CHANGED)
    words = f"attempt {attempt.number} had not begun, and is made anew of the changed spec"
    draft.again_after(LOOK_AGAIN)
    return draft.decided(Standing(Phase.STARTING, "Ending", words))


def of_another_spec(draft: Draft, child: Child, wanted: Callable[[], Raw]) -> bool:
    """Whether the spec has been changed since this Job was made, and now asks for other pods."""
    if draft.job.generation <= 1 or not child.template:
        return False
    annotations: dict[str, str] = wanted()["metadata"]["annotations"]
    return annotations[ANNOTATION_TEMPLATE] != child.template


def wanted_job(draft: Draft, attempt: Attempt) -> Raw:
    """The Job of this attempt, as the spec now asks for it."""
    image = draft.settings.image
    return child_job(draft.job, draft.spec, attempt=attempt.number, image=image)
