"""Why an attempt's trainer can't start, in words that name the remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kubeseg_operator.outcome import clip
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.spec import TrainingJobSpec

MAX_WORDS = 900


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The one cause that matters: a stable reason, and a sentence with the remedy."""

    reason: str
    message: str


def unschedulable(words: str, spec: TrainingJobSpec) -> Obstacle:
    """The scheduler's message, with what was asked for beside it."""
    claim = spec.workspace.claim_name
    if re.search(r'persistentvolumeclaim "[^"]*" not found', words):
        return Obstacle(
            "WorkspaceMissing",
            f'workspace claim "{claim}" is not there: create this PersistentVolumeClaim in the '
            "job's namespace (ReadWriteMany), and the job goes on by itself.",
        )
    if "unbound immediate PersistentVolumeClaims" in words:
        return Obstacle(
            "WorkspaceUnbound",
            f'workspace claim "{claim}" is not bound to a volume: look at its storage class and '
            f"events (kubectl describe pvc {claim}).",
        )
    if "persistentvolumeclaim" in words and "being deleted" in words:
        return Obstacle("WorkspaceLeaving", f'workspace claim "{claim}" is being deleted.')
    wish = spec.resources
    asked = [f"{wish.gpus} {wish.gpu_resource}"] if wish.gpus else []
    asked += [f"{wish.cpu} CPU", f"{wish.memory} memory"]
    offer = words.partition(" preemption:")[0].partition(" no new claims")[0].strip()
    remedies = []
    if "Insufficient" in offer:
        remedies.append("ask for less in spec.resources, or wait for a node with so much free")
    if "untolerated taint" in offer:
        remedies.append("add to spec.tolerations")
    if "node affinity" in offer or "node selector" in offer or "affinity/selector" in offer:
        remedies.append("look at spec.nodeSelector and spec.affinity")
    hint = f" To do: {'; '.join(remedies)}." if remedies else ""
    sentence = f"needs {', '.join(asked)} on one node; {offer.rstrip('.')}.{hint}"
    return Obstacle("Unschedulable", clip(sentence, MAX_WORDS))


def not_taken_up(pod: Pod, spec: TrainingJobSpec) -> Obstacle:
    """A pod of which the scheduler has said nothing."""
    scheduler = spec.scheduler_name or "default-scheduler"
    if not spec.resource_claims:
        words = f'the scheduler "{scheduler}" has not looked at pod {pod.name}: is it running?'
        if spec.scheduler_name:
            words += " spec.schedulerName names it."
        return Obstacle("NotScheduled", words)
    # Before its claims are there the scheduler leaves a pod alone, and tells nobody.
    claims = ", ".join(
        f"ResourceClaim {claim.resource_claim_name}"
        if claim.resource_claim_name
        else f"ResourceClaimTemplate {claim.resource_claim_template_name}"
        for claim in spec.resource_claims
    )
    words = (
        f"pod {pod.name} waits until what spec.resourceClaims names is there ({claims}): create "
        f'it, and the job goes on by itself. If it is there: is the scheduler "{scheduler}" up?'
    )
    return Obstacle("ResourceClaims", clip(words, MAX_WORDS))


_IMAGE_REASONS = frozenset(
    "ErrImagePull ImagePullBackOff InvalidImageName ErrImageNeverPull ImageInspectError "
    "RegistryUnavailable SignatureValidationFailed".split()
)
_START_REASONS = frozenset("CreateContainerError RunContainerError StartError".split())


def _image(pod: Pod, spec: TrainingJobSpec, image: str) -> Obstacle:
    words = pod.waiting_message
    # Back-off messages carry the cause behind the word; both forms must read alike, or the
    # condition would change at every turn of the kubelet's back-off.
    words = words.rpartition("ErrImagePull: ")[2]
    lower = words.lower()
    if "not found" in lower or "notfound" in lower:
        cause = "not found"
    elif re.search(r"unauthorized|denied|forbidden|authentication", lower):
        cause = "access denied (spec.imagePullSecrets names the credentials)"
    elif pod.waiting == "InvalidImageName":
        cause = "this is no image's name"
    elif pod.waiting == "ErrImageNeverPull":
        cause = "it is not on the node, and spec.imagePullPolicy is Never"
    elif lower.startswith("back-off pulling"):
        cause = "the last try failed"
    else:
        cause = clip(words, 300)
    default = "" if spec.image is None else f" The operator's default is {image}."
    return Obstacle(
        "ImagePull", f'image "{spec.image or image}" can\'t be pulled: {cause}.{default}'
    )


def of_pod(pod: Pod, spec: TrainingJobSpec, image: str) -> Obstacle | None:
    """What the pod's own status tells."""
    if pod.unschedulable is not None:
        return unschedulable(pod.unschedulable, spec)
    if pod.waiting in _IMAGE_REASONS:
        return _image(pod, spec, image)
    if pod.waiting == "CreateContainerConfigError":
        return Obstacle(
            "ConfigMissing",
            clip(
                f"what spec.env refers to is not there: {pod.waiting_message}. Create it, and the "
                "job goes on by itself.",
                MAX_WORDS,
            ),
        )
    if pod.waiting in _START_REASONS:
        return Obstacle(
            "ContainerStart", clip(f"the container can't start: {pod.waiting_message}", MAX_WORDS)
        )
    return None


def _latest(events: Iterable[Raw], reasons: frozenset[str]) -> Raw | None:
    def when(event: Raw) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or "")

    return max((e for e in events if e.get("reason") in reasons), key=when, default=None)


def of_volumes(events: Iterable[Raw]) -> Obstacle | None:
    """A pod that has a node and hangs: mounts that fail, from its events."""
    event = _latest(
        events, frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
    )
    if event is None:
        return None
    words = str(event.get("message", ""))
    if event.get("reason") == "FailedCreatePodSandBox":
        return Obstacle("PodSandbox", clip(f"the node can't make the pod: {words}", MAX_WORDS))
    return Obstacle("VolumeMount", clip(f"a volume can't be mounted: {words}", MAX_WORDS))


def no_pod(events: Iterable[Raw]) -> Obstacle | None:
    """Why a Job has no pod, if the Job controller told one."""
    event = _latest(events, frozenset({"FailedCreate"}))
    words = str(event.get("message", "")) if event else ""
    words = words.removeprefix("Error creating: ")
    if "violates PodSecurity" in words:
        sentence = (
            f"the namespace's Pod Security level refuses the pod: {words}. The trainer's pod "
            "passes the level restricted; look at what spec adds to it."
        )
        return Obstacle("PodSecurity", clip(sentence, MAX_WORDS))
    if "exceeded quota" in words:
        return quota(words)
    return (
        Obstacle("PodRefused", clip(f"the pod can't be made: {words}", MAX_WORDS))
        if words
        else None
    )


def quota(words: str) -> Obstacle:
    """The namespace's quota is used up."""
    sentence = (
        f"the namespace's quota is used up: {words}. Ask for less in spec.resources, or wait for "
        "other jobs to end."
    )
    return Obstacle("Quota", clip(sentence, MAX_WORDS))


def silent(child: Child) -> Obstacle:
    """A Job that the controller has taken up, without a pod or a reason."""
    return Obstacle("NoPod", f"Job {child.name} has no pod, and no event says why.")


def no_controller(child: Child) -> Obstacle:
    """A Job that nobody has taken up."""
    return Obstacle(
        "NoPod", f"Job {child.name} waits for the Job controller: is kube-controller-manager up?"
    )
