"""What others have changed of a Job and its pods: put right, or reported where it mustn't be.

Labels, owner and number of pods are put right, and the training goes on. A suspension is reported:
it may be Kueue's, which must not be fought. The pod template can't change, and nothing else of a
Job matters to us.
"""

from __future__ import annotations

from kubeseg_operator.builders import labels_of, owner_reference
from kubeseg_operator.cause import newest_of_each
from kubeseg_operator.decide.draft import Draft
from kubeseg_operator.decide.model import MendChild, MendPod
from kubeseg_operator.decide.queued import has_begun
from kubeseg_operator.outcome import tells
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.status import Attempt


def put_right(draft: Draft, attempt: Attempt, child: Child) -> None:
    """Have the Job of this attempt be as it was made."""
    meta: Raw = {}
    patch: Raw = {}
    if not child.labelled or child.attempt != attempt.number:
        meta["labels"] = labels_of(draft.job, attempt.number)
    if child.owner is None:
        meta["ownerReferences"] = [owner_reference(draft.job)]
    workers = draft.spec.workers
    ours = draft.spec.queue_name is None
    if ours and child.parallelism is not None and child.parallelism != workers:
        # Of an Indexed Job both change together, or not at all.
        patch["spec"] = {"parallelism": workers, "completions": workers}
    if meta or patch:
        draft.actions.append(MendChild(child.name, child.uid, {"metadata": meta, **patch}))


def out_of_sight(draft: Draft, attempt: Attempt, child: Child, pods: list[Pod]) -> bool:
    """Whether the watches may not tell how its pods stand: to them one is gone that has only lost
    its label, or never was there.
    """
    if child.suspended:
        return False
    newest = newest_of_each(pods)
    if len(newest) < draft.spec.workers:
        return has_begun(attempt, child, queued=draft.spec.queue_name is not None)
    key = draft.job.key
    return any(not tells(pod) and (pod.gone or pod.job != key.name) for pod in newest)


def put_pods_right(draft: Draft, attempt: Attempt, live: list[Pod]) -> None:
    """Have the pods of this attempt carry the labels that they were made with."""
    labels = labels_of(draft.job, attempt.number)
    for pod in live:
        if not pod.deleting and (pod.job, pod.attempt) != (draft.job.key.name, attempt.number):
            draft.actions.append(MendPod(pod.name, pod.uid, labels))
