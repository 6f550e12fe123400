"""Why an attempt's trainer can't start, in words that name the remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kubeseg_operator import images, quota, volumes
from kubeseg_operator.nodes import Node, about_gpus, about_taints
from kubeseg_operator.obstacle import EDITED, MAX_QUOTED, MAX_WORDS, Obstacle, latest
from kubeseg_operator.outcome import clip
from kubeseg_operator.views import DEFAULT_SCHEDULER, Child, Pod, Raw
from kubeseg_types.spec import TrainingJobSpec


def unschedulable(
    words: str, spec: TrainingJobSpec, nodes: Sequence[Node] = (), *, errand: bool = False
) -> Obstacle:
    """The scheduler's message, with what was asked for beside it, and what `nodes` offer.

    `errand`: the pod is no attempt's, and what it asks for is fixed.
    """
    wish = spec.resources
    asked = [f"{wish.gpus} {wish.gpu_resource}"] if wish.gpus else []
    asked += [f"{wish.cpu} CPU", f"{wish.memory} memory"]
    offer = words.partition(" preemption:")[0].partition(" no new claims")[0].strip()
    remedies, gpus, taints = [], "", ""
    if wish.gpus and f"Insufficient {wish.gpu_resource}" in offer:
        gpus = about_gpus(nodes, spec)
    if "Insufficient" in offer and not gpus:
        less = "ask for less in spec.resources, or wait for a node with so much free"
        remedies.append("free so much on a node, or wait" if errand else less)
    if "untolerated taint" in offer:
        taints, remedy = about_taints(nodes, spec)
        remedies.append(remedy)
    if "node affinity" in offer or "node selector" in offer or "affinity/selector" in offer:
        heeded = "kubernetes.io/os and kubernetes.io/arch in spec.nodeSelector"
        remedies.append(f"look at {heeded if errand else 'spec.nodeSelector and spec.affinity'}")
    if "were unschedulable" in offer:
        remedies.append("wait until the cordoned nodes are back (kubectl uncordon)")
    if re.search(r"persistent ?volume|volume node|pv\(s\)", offer, re.IGNORECASE):
        remedies.append(volumes.REMEDY.format(claim=spec.workspace.claim_name))
    hint = f" To do: {'; '.join(remedies)}." if remedies else ""
    if "spec." in f"{gpus}{hint}":
        hint += EDITED
    offer = clip(offer.rstrip("."), MAX_QUOTED)
    seen = "".join(f" {words}" for words in (gpus, taints) if words)
    sentence = f"needs {', '.join(asked)} on one node; {offer}.{seen}"
    return Obstacle("Unschedulable", clip(sentence + hint, MAX_WORDS))


def gated(pod: Pod) -> Obstacle:
    """No scheduler may look at the pod yet."""
    return Obstacle(
        "SchedulingGated",
        "its pod has scheduling gates, which whoever set them must lift (kubectl get pod "
        f"{pod.name} -o yaml).",
    )


def not_taken_up(pod: Pod, spec: TrainingJobSpec) -> Obstacle:
    """A pod of which the scheduler has said nothing."""
    scheduler = spec.scheduler_name or DEFAULT_SCHEDULER
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


_START_REASONS = frozenset("CreateContainerError RunContainerError StartError".split())


def of_pod(
    pod: Pod, spec: TrainingJobSpec, image: str, events: Iterable[Raw] = ()
) -> Obstacle | None:
    """What the pod's own status tells, and of a pull its events."""
    if images.waits(pod):
        return images.of_pull(pod, spec, image, events)
    said = clip(pod.waiting_message.rstrip("."), MAX_QUOTED)
    if pod.waiting == "CreateContainerConfigError":
        return Obstacle(
            "ConfigMissing",
            f"what spec.env refers to is not there: {said}. Create it, and the job goes on by "
            "itself.",
        )
    if pod.waiting in _START_REASONS:
        return Obstacle(
            "ContainerStart",
            f"the container can't start: {said}. Look whether spec.image ({spec.image or image}) "
            f"is a kubeseg trainer for {_node_of(pod)}'s processor.{EDITED} If others can't start "
            f"there either, it is the node: {_elsewhere(pod)}.",
        )
    return None


def _node_of(pod: Pod) -> str:
    return f"node {pod.node}" if pod.node else "its node"


def _elsewhere(pod: Pod) -> str:
    """How a pod that its node can't start comes to another."""
    node = pod.node or "NODE"
    return f"kubectl cordon {node}, then kubectl delete pod {pod.name}, which has a new one made"


def of_events(events: Iterable[Raw], pod: Pod, spec: TrainingJobSpec) -> Obstacle | None:
    """A pod that has a node and hangs: why, from its events; None where it only needs time."""
    event = latest(events, _TELLING)
    if event is None or event.get("reason") in _GOING_ON:
        return None
    words = str(event.get("message", ""))
    if event.get("reason") == "FailedCreatePodSandBox":
        said = clip(words.rstrip("."), MAX_QUOTED)
        return Obstacle(
            "PodSandbox",
            f"{_node_of(pod)} can't make the pod: {said}. It tries again by itself; if that does "
            f"not help, look at its network and its container runtime, or leave it: "
            f"{_elsewhere(pod)}.",
        )
    return volumes.of_mount(words, pod, spec)


_GOING_ON = frozenset({"Pulling", "Pulled", "Created", "Started"})
_TELLING = _GOING_ON | {"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"}
#: What the API server says to a pod that can't be made → reason, sentence, remedy.
_REFUSED = (
    (
        r"violates PodSecurity",
        "PodSecurity",
        "the namespace's Pod Security level refuses the pod",
        "The trainer's pod passes the level restricted; look at what spec adds to it.",
    ),
    (
        r"service ?account .*not found",
        "ServiceAccountMissing",
        "the namespace has no service account for the pod",
        "Create it (kubectl create serviceaccount default), and the job goes on by itself.",
    ),
    (
        r"no PriorityClass with name",
        "PriorityClassMissing",
        "spec.priorityClassName names none that is there",
        "Create it, or name another one.",
    ),
    (
        r"RuntimeClass .*not found",
        "RuntimeClassMissing",
        "spec.runtimeClassName names none that is there",
        "Create it, or name another one.",
    ),
    (
        r"failed quota: .* must specify",
        "Quota",
        "the namespace's quota counts what the pod does not say",
        "Have a LimitRange give it a default.",
    ),
    (
        r"(maximum|minimum) .* usage per",
        "LimitRange",
        "a LimitRange of the namespace refuses the pod",
        "Change spec.resources to fit it.",
    ),
    (
        r"admission webhook",
        "AdmissionWebhook",
        "a webhook of the cluster refuses the pod",
        "Ask who runs it, or change what it names.",
    ),
)


def no_pod(
    events: Iterable[Raw], spec: TrainingJobSpec, *, errand: bool = False
) -> Obstacle | None:
    """Why a Job has no pod, if the Job controller told one."""
    event = latest(events, frozenset({"FailedCreate"}))
    words = str(event.get("message", "")) if event else ""
    words = words.removeprefix("Error creating: ").rstrip(".")
    if "exceeded quota" in words:
        return quota.refused(words, spec.workers, fixed=errand)
    quoted = clip(words, MAX_QUOTED)
    for pattern, reason, what, remedy in _REFUSED:
        if re.search(pattern, words):
            if errand and reason == "LimitRange":
                return Obstacle(reason, f"{what}: {quoted}. Have it changed to fit.")
            edited = EDITED if "spec" in what + remedy else ""
            return Obstacle(reason, f"{what}: {quoted}. {remedy}{edited}")
    if not words:
        return None
    remedy = "Look at what spec adds to the pod, or ask who runs the cluster."
    return Obstacle(
        "PodRefused", f"the pod can't be made: {quoted}. {remedy}{'' if errand else EDITED}"
    )


def silent(child: Child) -> Obstacle:
    """A Job that the controller has taken up, without a pod or a reason."""
    return Obstacle(
        "NoPod",
        f"Job {child.name} has no pod, and no event says why: look at kube-controller-manager's "
        f"log, or have it made anew (kubectl delete job {child.name}).",
    )


def no_controller(child: Child) -> Obstacle:
    """A Job that nobody has taken up."""
    return Obstacle(
        "NoPod", f"Job {child.name} waits for the Job controller: is kube-controller-manager up?"
    )
