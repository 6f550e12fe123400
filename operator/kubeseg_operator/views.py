"""What the operator keeps of TrainingJobs, Jobs and Pods: trimmed, typed, hashable parts.

Objects of the API are read leniently here: anything may be missing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from kubeseg_operator.clock import add, parse, stamp
from kubeseg_types.names import (
    ANNOTATION_CONFIG,
    ANNOTATION_TEMPLATE,
    GROUP,
    KIND,
    LABEL_ATTEMPT,
    LABEL_CLEANUP_OF,
    LABEL_JOB,
    TRAINER_CONTAINER,
)

Raw = dict[str, Any]
#: Set by the Job controller on each pod that it makes.
LABEL_CONTROLLER = "batch.kubernetes.io/controller-uid"
DEFAULT_SCHEDULER = "default-scheduler"
_GARBAGE_COLLECTORS = frozenset({"foregroundDeletion", "orphan"})
_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"


class Key(NamedTuple):
    """Namespace and name of a TrainingJob."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class JobView:
    """A TrainingJob; `spec` and `status` as the API server has them, kept as JSON."""

    key: Key
    uid: str
    version: str
    generation: int
    created: str
    deleting: bool
    #: When its deletion was asked for.
    deleted: str | None
    finalizers: tuple[str, ...]
    annotations: dict[str, str]
    spec_json: bytes
    status_json: bytes

    @property
    def spec(self) -> Raw:
        """The spec, made anew: whoever changes it changes nothing here."""
        return unpacked(self.spec_json)

    @property
    def status(self) -> Raw:
        """The status, likewise."""
        return unpacked(self.status_json)


@dataclass(frozen=True, slots=True)
class Child:
    """A child Job. `owner` is the UID of the TrainingJob that controls it, if one does, or whose
    run it removes.
    """

    name: str
    uid: str
    version: str
    created: str
    owner: str | None
    #: Something that is no TrainingJob controls it.
    foreign: bool
    attempt: int
    deleting: bool
    #: When the Job controller took it up.
    started: str | None
    #: "Complete" or "Failed" once all its pods have ended.
    finished: str | None
    message: str
    #: spec.suspend: of a Job with a queue, Kueue has it wait.
    suspended: bool
    #: What others may have changed: the label that it is watched by, and how many pods it makes.
    labelled: bool
    parallelism: int | None
    #: What it waits for before it goes, Kubernetes' own apart.
    finalizers: tuple[str, ...]
    #: Hash of the pods that it was made to make; "" of Jobs from before there was one.
    template: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A trainer's pod. `gone`: it was deleted, and this is the last that was seen of it."""

    name: str
    uid: str
    version: str
    created: str
    #: UID of the Job that made it.
    child: str | None
    #: The TrainingJob in the label that it is watched by; others may have changed it.
    job: str
    attempt: int
    #: Which of several workers.
    index: int
    node: str | None
    #: The scheduler that it is left to.
    scheduler: str
    ip: str | None
    phase: str
    reason: str
    message: str
    deleting: bool
    #: When its deletion was asked for.
    deleted_at: str | None
    #: Version at which it was first seen being deleted: of two in one second it tells the first.
    leaving_version: int | None
    #: When its deletion is due to be over, its grace period included.
    due: str | None
    gone: bool
    #: Its deletion doesn't wait for its node.
    forced: bool
    #: Since when its node has not answered: then the node controller takes its readiness away,
    #: while its containers stay as ready as its kubelet last said.
    unanswered: str | None
    #: Reason of its DisruptionTarget condition.
    disruption: str | None
    #: Message of the scheduler where it found no node.
    unschedulable: str | None
    #: Held by scheduling gates.
    gated: bool
    scheduled_at: str | None
    waiting: str | None
    waiting_message: str
    started_at: str | None
    running: bool
    exit_code: int | None
    end_reason: str
    end_message: str
    ended_at: str | None
    config_hash: str

    @property
    def ended(self) -> bool:
        """No process of it runs any more."""
        return self.gone or self.phase in {"Succeeded", "Failed"}


def packed(part: Raw) -> bytes:
    """`part` as it is kept: ten thousand specs and statuses take a fifth of the room as JSON."""
    # Copied: what orjson returns keeps the room that it was written in.
    return bytes(memoryview(orjson.dumps(part)))


def unpacked(part: bytes) -> Raw:
    """What `packed` had packed."""
    raw: Raw = orjson.loads(part)
    return raw


def config_hash(text: str) -> str:
    """What is compared in place of a configuration's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def version_number(version: str) -> int:
    """A resourceVersion as a number; those of one resource are ordered. -1 where it is none."""
    return int(version) if version.isdecimal() else -1


def _meta(raw: Raw) -> Raw:
    return raw.get("metadata") or {}


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0


def _deleted_at(meta: Raw) -> str | None:
    """The API names the time by which it has to be gone: the grace period is taken off."""
    text = meta.get("deletionTimestamp")
    by = parse(text)
    grace = meta.get("deletionGracePeriodSeconds") or 0
    return stamp(add(by, -grace)) if by else text


def _index(meta: Raw) -> int:
    """The completion index, which the Job controller gives as a label, older ones as annotation."""
    told = (meta.get("labels") or {}).get(_COMPLETION_INDEX)
    return _number(told or (meta.get("annotations") or {}).get(_COMPLETION_INDEX))


def job_key(raw: Raw) -> Key:
    """The key of a TrainingJob of the API."""
    meta = _meta(raw)
    return Key(meta.get("namespace", ""), meta.get("name", ""))


def job_view(raw: Raw) -> JobView:
    """A TrainingJob of the API."""
    meta = _meta(raw)
    return JobView(
        key=job_key(raw),
        uid=meta.get("uid", ""),
        version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 0),
        created=meta.get("creationTimestamp", ""),
        deleting="deletionTimestamp" in meta,
        deleted=meta.get("deletionTimestamp"),
        finalizers=tuple(meta.get("finalizers") or ()),
        annotations={
            name: value
            for name, value in (meta.get("annotations") or {}).items()
            if name.startswith(f"{GROUP}/")
        },
        spec_json=packed(raw.get("spec") or {}),
        status_json=packed(raw.get("status") or {}),
    )


def _controller(raw: Raw, kind: str) -> Raw:
    for reference in _meta(raw).get("ownerReferences") or []:
        group = reference.get("apiVersion", "").partition("/")[0]
        ours = reference.get("kind") == kind and (kind != KIND or group == GROUP)
        if ours and reference.get("controller"):
            return dict(reference)
    return {}


def owner_uid(raw: Raw, kind: str = KIND) -> str | None:
    """UID of the `kind` that controls this object."""
    controller = _controller(raw, kind)
    return str(controller.get("uid")) if controller else None


def key_of_labelled(raw: Raw) -> Key | None:
    """The TrainingJob that a Job or Pod names in its label."""
    meta = _meta(raw)
    name = (meta.get("labels") or {}).get(LABEL_JOB)
    return Key(meta.get("namespace", ""), name) if name else None


def key_of_child(raw: Raw) -> Key | None:
    """The TrainingJob that controls a Job; its label may have been changed to another's."""
    name = _controller(raw, KIND).get("name")
    return Key(_meta(raw).get("namespace", ""), str(name)) if name else key_of_labelled(raw)


def child_view(raw: Raw) -> Child:
    """A Job of the API."""
    meta = _meta(raw)
    label = (meta.get("labels") or {}).get(LABEL_JOB)
    finished, message = None, ""
    for condition in (raw.get("status") or {}).get("conditions") or []:
        if condition.get("type") in {"Complete", "Failed"} and condition.get("status") == "True":
            finished = condition["type"]
            message = f"{condition.get('reason', '')}: {condition.get('message', '')}"
    return Child(
        name=meta.get("name", ""),
        uid=meta.get("uid", ""),
        version=meta.get("resourceVersion", ""),
        created=meta.get("creationTimestamp", ""),
        owner=owner_uid(raw) or (meta.get("labels") or {}).get(LABEL_CLEANUP_OF),
        foreign=owner_uid(raw) is None
        and any(each.get("controller") for each in meta.get("ownerReferences") or []),
        attempt=_number((meta.get("labels") or {}).get(LABEL_ATTEMPT)),
        deleting="deletionTimestamp" in meta,
        started=(raw.get("status") or {}).get("startTime"),
        finished=finished,
        message=message,
        suspended=(raw.get("spec") or {}).get("suspend") is True,
        labelled=bool(label) and _controller(raw, KIND).get("name", label) == label,
        parallelism=(raw.get("spec") or {}).get("parallelism"),
        finalizers=tuple(
            name for name in meta.get("finalizers") or () if name not in _GARBAGE_COLLECTORS
        ),
        template=(meta.get("annotations") or {}).get(ANNOTATION_TEMPLATE, ""),
    )


def _orphaned_by(meta: Raw) -> str | None:
    """A Job deleted without its pods (--cascade=orphan) leaves them its UID in a label."""
    if any(each.get("controller") for each in meta.get("ownerReferences") or []):
        return None
    uid = (meta.get("labels") or {}).get(LABEL_CONTROLLER)
    return str(uid) if uid else None


def pod_view(raw: Raw, *, gone: bool = False) -> Pod:
    """A Pod of the API."""
    meta, status = _meta(raw), raw.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    disruption = conditions.get("DisruptionTarget") or {}
    ready, containers = conditions.get("Ready") or {}, conditions.get("ContainersReady") or {}
    hidden = ready.get("status") == "False" and containers.get("status") == "True"
    gates = ready.get("reason") == "ReadinessGatesNotReady"
    container: Raw = {}
    for entry in status.get("containerStatuses") or []:
        if entry.get("name") == TRAINER_CONTAINER:
            container = entry
    state = container.get("state") or {}
    waiting, running = state.get("waiting") or {}, state.get("running")
    ended = state.get("terminated") or {}
    return Pod(
        name=meta.get("name", ""),
        uid=meta.get("uid", ""),
        version=meta.get("resourceVersion", ""),
        created=meta.get("creationTimestamp", ""),
        child=owner_uid(raw, "Job") or _orphaned_by(meta),
        job=(meta.get("labels") or {}).get(LABEL_JOB, ""),
        attempt=_number((meta.get("labels") or {}).get(LABEL_ATTEMPT)),
        index=_index(meta),
        node=(raw.get("spec") or {}).get("nodeName"),
        scheduler=(raw.get("spec") or {}).get("schedulerName") or DEFAULT_SCHEDULER,
        ip=status.get("podIP"),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        deleting="deletionTimestamp" in meta,
        deleted_at=_deleted_at(meta),
        leaving_version=(
            version_number(meta.get("resourceVersion", "")) if "deletionTimestamp" in meta else None
        ),
        due=meta.get("deletionTimestamp"),
        gone=gone,
        forced=meta.get("deletionGracePeriodSeconds") == 0,
        unanswered=ready.get("lastTransitionTime") if hidden and not gates else None,
        disruption=disruption.get("reason") if disruption.get("status") == "True" else None,
        unschedulable=(
            scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else None
        ),
        gated=scheduled.get("reason") == "SchedulingGated",
        scheduled_at=(
            scheduled.get("lastTransitionTime") if scheduled.get("status") == "True" else None
        ),
        waiting=waiting.get("reason") if waiting else None,
        waiting_message=waiting.get("message", ""),
        started_at=(running or ended or {}).get("startedAt"),
        running=running is not None,
        exit_code=ended.get("exitCode"),
        end_reason=ended.get("reason", ""),
        end_message=ended.get("message", ""),
        ended_at=ended.get("finishedAt"),
        config_hash=config_hash((meta.get("annotations") or {}).get(ANNOTATION_CONFIG, "")),
    )
