"""TrainingJobs, Jobs and Pods as the API server would have them, for tests of the operator."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from kubeseg_operator.builders import config_text
from kubeseg_operator.views import Child, JobView, Pod, child_view, job_view, pod_view
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.trainer import EpochRecord, Part, Progress, TerminationMessage, WeightsFile

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-0000-0000-0000-000000000000"
CHILD_UID = "22222222-0000-0000-0000-000000000001"
POD_UID = "33333333-0000-0000-0000-000000000001"

Raw = dict[str, Any]


def at(seconds: float) -> str:
    """A time so many seconds after NOW, as the API has it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def raw_job(
    *, spec: Raw | None = None, status: Raw | None = None, generation: int = 1, **meta: Any
) -> Raw:
    """A TrainingJob with the API server's defaults filled in; `spec` is merged two levels deep."""
    wanted: Raw = {"dataset": {"name": "streets"}, "training": {"epochs": 12}}
    for name, value in (spec or {}).items():
        mergeable = isinstance(value, dict) and isinstance(wanted.get(name), dict)
        wanted[name] = {**wanted[name], **value} if mergeable else value
    return {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {
            "name": "job",
            "namespace": "team",
            "uid": UID,
            "resourceVersion": "100",
            "generation": generation,
            "creationTimestamp": at(-60),
        }
        | meta,
        "spec": TrainingJobSpec.model_validate(wanted).to_dict(),
        "status": status or {},
    }


def job(**wanted: Any) -> JobView:
    """A TrainingJob as the operator keeps it."""
    return job_view(raw_job(**wanted))


def strange_job(status: Raw | None = None, **fields: Any) -> JobView:
    """One with these fields of its spec, which another version's schema has let in."""
    raw = raw_job(status=status)
    return job_view(raw | {"spec": raw["spec"] | fields})


def raw_child(
    *,
    attempt: int = 1,
    uid: str = CHILD_UID,
    owner: str | None = UID,
    finished: str = "",
    started: str | None = at(-29),
    suspended: bool = False,
    **meta: Any,
) -> Raw:
    """A child Job."""
    conditions = []
    if finished:
        conditions = [{"type": finished, "status": "True", "reason": "R", "message": "m"}]
    owners = [
        {
            "apiVersion": "kubeseg.dev/v1alpha1",
            "kind": "TrainingJob",
            "name": "job",
            "uid": owner,
            "controller": True,
        }
    ]
    return {
        "metadata": {
            "name": f"job-{attempt}",
            "namespace": "team",
            "uid": uid,
            "resourceVersion": "200",
            "creationTimestamp": at(-30),
            "labels": {"kubeseg.dev/job": "job", "kubeseg.dev/attempt": str(attempt)},
            "ownerReferences": owners if owner else [],
        }
        | meta,
        "spec": {"suspend": suspended},
        "status": {"conditions": conditions} | ({"startTime": started} if started else {}),
    }


def child(**wanted: Any) -> Child:
    """A child Job as the operator keeps it."""
    return child_view(raw_child(**wanted))


def raw_pod(
    *,
    attempt: int = 1,
    index: int = 0,
    child_uid: str = CHILD_UID,
    phase: str = "Pending",
    state: Raw | None = None,
    conditions: list[Raw] | None = None,
    config: str = "",
    node: str | None = "node-a",
    **meta: Any,
) -> Raw:
    """A trainer's pod; `state` is its container's."""
    statuses = [{"name": "trainer", "state": state}] if state else []
    return {
        "metadata": {
            "name": f"job-{attempt}-{index}-abcde",
            "namespace": "team",
            "uid": f"{POD_UID[:-1]}{index + 1}",
            "resourceVersion": "300",
            "creationTimestamp": at(-29),
            "labels": {
                "kubeseg.dev/job": "job",
                "kubeseg.dev/attempt": str(attempt),
                "batch.kubernetes.io/job-completion-index": str(index),
            },
            "annotations": {"kubeseg.dev/config": config},
            "ownerReferences": [{"kind": "Job", "uid": child_uid, "controller": True}],
        }
        | meta,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "podIP": "10.0.0.7",
            "conditions": conditions or [],
            "containerStatuses": statuses,
        },
    }


def pod(*, gone: bool = False, **wanted: Any) -> Pod:
    """A pod as the operator keeps it."""
    return pod_view(raw_pod(**wanted), gone=gone)


RUNNING = {"running": {"startedAt": at(-20)}}


def running_pod(owner: JobView, **wanted: Any) -> Pod:
    """A running pod that has the configuration of `owner` as it is now."""
    spec = TrainingJobSpec.model_validate(owner.spec)
    config = config_text(owner, spec, wanted.get("attempt", 1))
    return pod(**({"phase": "Running", "state": RUNNING, "config": config} | wanted))


def terminated(code: int, *, reason: str = "Error", message: str = "") -> Raw:
    """A terminated container's state."""
    ended = {
        "exitCode": code,
        "reason": "Completed" if code == 0 else reason,
        "message": message,
        "startedAt": at(-20),
        "finishedAt": at(-1),
    }
    return {"terminated": ended}


def ended_pod(code: int, *, reason: str = "Error", message: str = "", **wanted: Any) -> Pod:
    """A pod whose trainer has ended."""
    phase = "Succeeded" if code == 0 else "Failed"
    state = terminated(code, reason=reason, message=message)
    return pod(**({"phase": phase, "state": state} | wanted))


def last_words(code: int = 0, **fields: Any) -> str:
    """A termination message."""
    words = {"exit_code": code, "reason": "R", "message": "", "epochs": 12, "generation": 1}
    return TerminationMessage.model_validate(words | fields).model_dump_json(
        by_alias=True, exclude_none=True
    )


def record(epoch: int, iou: float = 0.5, weights: str | None = None) -> EpochRecord:
    """A finished epoch."""
    part = Part(loss=0.4, dice=iou, iou=iou, samples=8, class_dice=[iou], class_iou=[iou])
    file = WeightsFile(path=weights, sha256="ab" * 32, bytes=10) if weights else None
    return EpochRecord(
        epoch=epoch,
        step=epoch * 10,
        train=part,
        validation=part,
        learning_rate=0.001,
        seconds=2.0,
        samples_per_second=40.0,
        time=at(0),
        attempt=1,
        start=1,
        weights=file,
    )


def report(**fields: Any) -> Progress:
    """What a trainer answers to /progress."""
    told: Raw = {
        "seq": 1,
        "job": "job",
        "uid": UID,
        "attempt": 1,
        "start": 1,
        "state": "Training",
        "epoch": 0,
        "epochs": 12,
        "step": 0,
        "steps_per_epoch": 10,
        "generation": 1,
        "batch_size": 8,
        "accumulate": 1,
        "updated": at(0),
    }
    return Progress.model_validate(told | fields)


def attempt(number: int = 1, **fields: Any) -> Raw:
    """An attempt in status, running unless told otherwise."""
    return {"number": number, "jobName": f"job-{number}", "reservedTime": at(-40)} | fields


def running_attempt(number: int = 1, **fields: Any) -> Raw:
    """An attempt whose Job is recorded and whose trainer runs."""
    known = {"uid": CHILD_UID, "startTime": at(-20), "node": "node-a"}
    return attempt(number, **(known | fields))


def ended_attempt(number: int = 1, outcome: str = "Interrupted", **fields: Any) -> Raw:
    """An attempt that has ended."""
    known = {"uid": f"old-{number}", "endTime": at(-10), "outcome": outcome, "reason": outcome}
    return attempt(number, **(known | fields))


def condition(kind: str, value: str = "True", reason: str = "Because") -> Raw:
    """A condition in status."""
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": "",
        "lastTransitionTime": at(-50),
        "observedGeneration": 1,
    }


def progress(epoch: int, **fields: Any) -> Raw:
    """Progress in status."""
    return {"epoch": epoch, "epochs": 12, "updated": at(-5)} | fields


def as_json(text: str) -> Raw:
    """A JSON object."""
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed
