"""A Job that the API server refuses: in words of the TrainingJob's fields. Pure."""

from __future__ import annotations

import re

from kubeseg_operator import quota
from kubeseg_operator.client import ApiError
from kubeseg_operator.obstacle import MAX_QUOTED, MAX_WORDS, Obstacle
from kubeseg_operator.outcome import clip

#: In a 500 where a webhook that must agree does not answer: nothing was made.
UNASKED = "failed calling webhook"
_POD, _CONTAINER = r"spec\.template\.spec\.", r"spec\.template\.spec\.containers\[\d+\]\."
_SAME = "nodeSelector|tolerations|affinity|imagePullSecrets|priorityClassName|runtimeClassName"
#: Where a Job has what a TrainingJob has elsewhere.
_FIELDS = (
    (r"spec\.template\.(metadata\.)?labels", "spec.podLabels"),
    (r"spec\.template\.(metadata\.)?annotations", "spec.podAnnotations"),
    (rf"{_POD}({_SAME}|schedulerName|resourceClaims)", r"spec.\1"),
    # The operator's own variables come before the user's: an index would mislead.
    (rf"{_CONTAINER}env\b[\w\[\].]*", "spec.env"),
    (rf"{_CONTAINER}resources\b[\w\[\].]*", "spec.resources"),
    (rf"{_CONTAINER}(image|imagePullPolicy)\b", r"spec.\1"),
    (
        rf"{_POD}volumes\[\d+\]\.persistentVolumeClaim\.claimName",
        "spec.workspace.claimName",
    ),
    (r"(?<![\w.])metadata\.labels", "spec.queueName"),
)
_NAMED = re.compile(
    rf"\bspec\.(podLabels|podAnnotations|{_SAME}|schedulerName|resourceClaims|env|resources|"
    r"imagePullPolicy|image|workspace\.claimName|queueName)\b"
)
_FIXED = frozenset({"spec.workspace.claimName", "spec.queueName"})


def of_job(error: ApiError) -> Obstacle:
    """Why a Job can't be made, and what to do."""
    words = error.message
    if "exceeded quota" in words:
        return quota.refused(words, fixed=True)
    if error.reason == "NotFound" or "being terminated" in words:
        return Obstacle("NamespaceLeaving", clip(words, MAX_WORDS))
    if UNASKED in words:
        words = f"a webhook that must agree to the Job does not answer: {words}"
        return Obstacle("AdmissionWebhook", clip(f"{words}. Ask who runs it.", MAX_WORDS))
    for pattern, field in _FIELDS:
        words = re.sub(pattern, field, words)
    quoted = clip(words.rstrip("."), MAX_QUOTED)
    return Obstacle("JobRefused", f"the API server refuses the Job: {quoted}. {_remedy(words)}")


def _remedy(words: str) -> str:
    if "admission webhook" in words:
        return "Ask who runs it, or change what it names in the TrainingJob's spec."
    if "cannot create resource" in words:
        return "Whoever runs the operator must give it this right."
    fields = list(dict.fromkeys(match[0] for match in _NAMED.finditer(words)))[:5]
    for field in fields:
        if field in _FIXED:
            return f"Make a new TrainingJob with another {field}."
    if fields:
        return f"Edit {' and '.join(fields)} of the TrainingJob: that is taken up at once."
    return "Look at what the TrainingJob's spec adds to the pod, or ask who runs the cluster."
