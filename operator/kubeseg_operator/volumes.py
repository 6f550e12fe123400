"""The workspace claim that keeps a trainer from starting, in words that name the remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kubeseg_operator.obstacle import MAX_QUOTED, MAX_WORDS, Obstacle
from kubeseg_operator.outcome import clip
from kubeseg_operator.views import Pod, Raw
from kubeseg_types.spec import TrainingJobSpec

REMEDY = (
    'workspace claim "{claim}" ties the job to other nodes: use a ReadWriteMany claim, or run '
    "where its volume is"
)
_PROVISIONING = frozenset({"ProvisioningFailed", "FailedBinding"})


def unbound(words: str) -> bool:
    """True where the scheduler waits for a claim to be bound."""
    return "unbound immediate PersistentVolumeClaims" in words


def of_claim(
    words: str, spec: TrainingJobSpec, claim: Sequence[Raw] = (), events: Iterable[Raw] = ()
) -> Obstacle | None:
    """What the scheduler says about the claim: missing, leaving, unbound; None: it is not that."""
    name = spec.workspace.claim_name
    if re.search(r'persistentvolumeclaim "[^"]*" not found', words):
        return Obstacle(
            "WorkspaceMissing",
            f'workspace claim "{name}" is not there: create this PersistentVolumeClaim in the '
            "job's namespace (ReadWriteMany), and the job goes on by itself.",
        )
    if "persistentvolumeclaim" in words and "being deleted" in words:
        return Obstacle(
            "WorkspaceLeaving",
            f'workspace claim "{name}" is being deleted: pods that still use it hold it up. '
            "Create it again once it is gone.",
        )
    if unbound(words):
        sentence = f'workspace claim "{name}" is not bound to a volume{_wish(claim)}'
        event = max(
            (e for e in events if e.get("reason") in _PROVISIONING),
            key=lambda e: str(e.get("lastTimestamp") or ""),
            default=None,
        )
        if event:
            told = clip(str(event.get("message", "")).rstrip("."), MAX_QUOTED)
            sentence += (
                f": {told}. A claim's class and access mode can't be changed: delete it (kubectl "
                f"delete pvc {name}), and make it anew with what the cluster offers (kubectl get "
                "storageclass)"
            )
        else:
            sentence += f": look at its storage class and events (kubectl describe pvc {name})"
        return Obstacle("WorkspaceUnbound", clip(f"{sentence}.", MAX_WORDS))
    return None


def _wish(claim: Sequence[Raw]) -> str:
    spec = (claim[0].get("spec") or {}) if claim else {}
    modes = ", ".join(spec.get("accessModes") or [])
    storage = spec.get("storageClassName")
    named = f'of class "{storage}"' if storage else "without a storage class"
    return f" ({modes}, {named})" if spec else ""


def of_mount(words: str, pod: Pod, spec: TrainingJobSpec) -> Obstacle:
    """A kubelet or the attach controller can't bring a volume to the pod."""
    name = spec.workspace.claim_name
    if "Multi-Attach error" in words:
        sentence = (
            f'another node holds the volume of workspace claim "{name}", which only one node at a '
            f"time may use: {words.rstrip('.')}. It goes on when that pod has ended; to share it, "
            "use a ReadWriteMany claim."
        )
        return Obstacle("WorkspaceInUse", clip(sentence, MAX_WORDS))
    node = f"node {pod.node}" if pod.node else "the node"
    said = clip(words.rstrip("."), MAX_QUOTED)
    return Obstacle(
        "VolumeMount",
        f"a volume can't be mounted: {said}. {node[0].upper()}{node[1:]} tries again by itself, "
        "and the job goes on once it works: see that it reaches the storage of workspace claim "
        f'"{name}" (kubectl describe pvc {name}; kubectl describe pod {pod.name}).',
    )
