"""Whether Deployments are really Ready, in words, from what the API server says. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
# A crash right after the start may be a race with something that is not there yet.
CRASHES_BORNE = 3
FATAL_WAITING = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "InvalidImageName", "RunContainerError"}
)


@dataclass(frozen=True)
class Readiness:
    """`states` maps a Deployment to a word; `fatal` says why waiting is useless, or is None."""

    ready: bool
    states: dict[str, str]
    fatal: str | None = None
    crashed_pod: str | None = None
    waiting_for: list[str] = field(default_factory=list)


def readiness(deployments: list[Object], pods: list[Object], claims: list[Object]) -> Readiness:
    """How the Deployments of a release are; `pods` and `claims` give the reasons."""
    states = {_name(each): _state(each) for each in deployments}
    for each in deployments:
        for condition in _conditions(each):
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return Readiness(False, states, f"{_name(each)}: {condition['message']}")
    for pod in pods:
        if _keeps_crashing(pod):
            return Readiness(False, states, f"{_name(pod)} keeps crashing", _name(pod))
        for reason, told in _waiting(pod):
            if reason in FATAL_WAITING:
                return Readiness(False, states, told)
    ready = bool(states) and set(states.values()) == {"Ready"}
    return Readiness(ready, states, waiting_for=_reasons(pods, claims))


def _reasons(pods: list[Object], claims: list[Object]) -> list[str]:
    phases = {_name(claim): claim.get("status", {}).get("phase", "Pending") for claim in claims}
    why = [f"claim {name} is {phase}" for name, phase in phases.items() if phase != "Bound"]
    for pod in pods:
        why += [told for _, told in _waiting(pod)]
        why += [
            f"{_name(pod)} can't be scheduled: {condition.get('message', '')}"
            for condition in _conditions(pod)
            if condition.get("reason") == "Unschedulable"
        ]
    return why


def _waiting(pod: Object) -> list[tuple[str, str]]:
    """(reason, the whole story) of each container that waits for more than its creation."""
    found = []
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason and reason != "ContainerCreating":
            told = f"{_name(pod)}: {reason}: {waiting.get('message', '')}".rstrip(": ")
            found.append((reason, told))
    return found


def _keeps_crashing(pod: Object) -> bool:
    return any(
        each.get("restartCount", 0) >= CRASHES_BORNE and not each.get("ready")
        for each in _containers(pod)
    )


def _containers(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses", []))


def _conditions(each: Object) -> list[Object]:
    return list(each.get("status", {}).get("conditions", []))


def _name(each: Object) -> str:
    return str(each["metadata"]["name"])


def _state(deployment: Object) -> str:
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "starting"
    # An old pod still counts as available until its successor is.
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas")]
    return "Ready" if counts == [wanted] * 3 else "starting"
