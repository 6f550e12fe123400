"""Reading objects of the API: what controllers and checks ask of them."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]
#: What the Job controller puts on its pods.
TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
CONTROLLER = "batch.kubernetes.io/controller-uid"


def condition(kind: str, status: str = "True", **fields: Any) -> Raw:
    """A condition, true unless said otherwise."""
    return {"type": kind, "status": status} | fields


def conditions_of(raw: Raw) -> list[Raw]:
    """The conditions in status."""
    return list(raw.get("status", {}).get("conditions", []))


def with_condition(raw: Raw, new: Raw) -> list[Raw]:
    """The conditions, with this one in the place of the one of its type."""
    return [c for c in conditions_of(raw) if c["type"] != new["type"]] + [new]


def has_condition(raw: Raw, kind: str) -> bool:
    """True where this condition is."""
    return any(c["type"] == kind and c["status"] == "True" for c in conditions_of(raw))


def owned_by(raw: Raw, uid: str) -> bool:
    """True where this UID is among the owners."""
    return any(r["uid"] == uid for r in raw["metadata"].get("ownerReferences", []))


def owned_by_a_job(pod: Raw) -> bool:
    """Other pods are nobody's business here."""
    return any(r["kind"] == "Job" for r in pod["metadata"].get("ownerReferences", []))


def finished(job: Raw) -> bool:
    """True of a Job that is Complete or Failed."""
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def terminal(pod: Raw) -> bool:
    """True of a pod that has ended."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def deleting(raw: Raw) -> bool:
    """True once its deletion was asked for."""
    return "deletionTimestamp" in raw["metadata"]


def index_of(pod: Raw) -> int:
    """The completion index of a pod."""
    return int(pod["metadata"].get("labels", {}).get(INDEX, 0))
