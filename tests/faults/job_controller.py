"""The Job controller, scripted: pods for Jobs, and how a Job ends by them.

As far as `backoffLimit: 0` and `podReplacementPolicy: Failed` go: one failed pod ends the Job, and
a pod that is going is replaced only once it has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.faults.api_model import ApiModel
from tests.faults.objects import (
    CONTROLLER,
    INDEX,
    TRACKING,
    condition,
    deleting,
    finished,
    has_condition,
    index_of,
    owned_by,
    terminal,
    with_condition,
)

Raw = dict[str, Any]
_WHO = "job-controller"


@dataclass(slots=True)
class JobController:
    """`later` calls after so many seconds."""

    api: ApiModel
    later: Callable[[float, Callable[[], None]], None]

    def sync(self, job: Raw) -> None:
        """Look at one Job, as it is now."""
        meta, spec = job["metadata"], job["spec"]
        pods = [p for p in self.api.all("pods", meta["namespace"]) if owned_by(p, meta["uid"])]
        if finished(job) or deleting(job):
            self.release(pods)
            return
        counted = [p for p in pods if TRACKING in p["metadata"].get("finalizers", [])]
        if any(p["status"].get("phase") == "Failed" for p in counted):
            self._fail(job, counted)
            return
        done = {index_of(p) for p in counted if p["status"].get("phase") == "Succeeded"}
        if len(done) >= spec.get("completions", 1):
            self._end(job, counted, "Complete", "CompletionsReached")
        elif spec.get("suspend"):
            self._suspend(job, counted)
        else:
            self._run(job, pods, counted, done)

    def release(self, pods: list[Raw]) -> None:
        """Let go of pods that have ended or are going."""
        for pod in pods:
            if terminal(pod) or deleting(pod):
                meta = pod["metadata"]
                self.api.drop_finalizer("pods", meta["namespace"], meta["name"], TRACKING, _WHO)

    def _say(self, job: Raw, status: Raw) -> None:
        meta = job["metadata"]
        self.api.put_status("jobs", meta["namespace"], meta["name"], status, who=_WHO)

    def _suspend(self, job: Raw, pods: list[Raw]) -> None:
        """Its pods get SIGTERM, and count for nothing."""
        for pod in pods:
            self._remove(pod)
        if has_condition(job, "Suspended"):
            return
        told = condition("Suspended", reason="JobSuspended", lastTransitionTime=self.api.now())
        self._say(job, job.get("status", {}) | {"conditions": with_condition(job, told)})

    def _remove(self, pod: Raw) -> None:
        if terminal(pod) or deleting(pod):
            return
        meta = pod["metadata"]
        self.api.drop_finalizer("pods", meta["namespace"], meta["name"], TRACKING, _WHO)
        self.api.delete("pods", meta["namespace"], meta["name"], {}, who=_WHO)

    def _run(self, job: Raw, pods: list[Raw], counted: list[Raw], done: set[int]) -> None:
        spec, status, now = job["spec"], dict(job.get("status", {})), self.api.now()
        if has_condition(job, "Suspended"):
            resumed = condition("Suspended", "False", reason="JobResumed", lastTransitionTime=now)
            status |= {"conditions": with_condition(job, resumed), "startTime": now}
        status.setdefault("startTime", now)
        self._say(job, status)
        wanted, completions = spec.get("parallelism", 1), spec.get("completions", 1)
        active = [p for p in counted if not terminal(p) and not deleting(p)]
        active.sort(key=index_of)
        surplus = [p for p in active if index_of(p) >= completions]
        kept = [p for p in active if index_of(p) < completions]
        for pod in surplus + kept[wanted:]:
            self._remove(pod)
        there = {index_of(p) for p in pods if not terminal(p)}
        missing = [n for n in range(completions) if n not in there | done]
        for index in missing[: max(0, wanted - len(there))]:
            self._make_pod(job, index)

    def _fail(self, job: Raw, pods: list[Raw]) -> None:
        """One pod has failed: the others are ended; Failed once all have."""
        for pod in pods:
            if not terminal(pod) and not deleting(pod):
                meta = pod["metadata"]
                self.api.delete("pods", meta["namespace"], meta["name"], {}, who=_WHO)
        if all(terminal(pod) for pod in pods):
            self._end(job, pods, "Failed", "BackoffLimitExceeded")

    def _end(self, job: Raw, pods: list[Raw], kind: str, reason: str) -> None:
        meta, spec = job["metadata"], job["spec"]
        told = condition(kind, reason=reason, message="as told", lastTransitionTime=self.api.now())
        status = {"startTime": self.api.now()} | job.get("status", {})
        self._say(job, status | {"conditions": with_condition(job, told)})
        self.release(pods)
        if "ttlSecondsAfterFinished" in spec:
            where = ("jobs", meta["namespace"], meta["name"], meta["uid"])
            self.later(spec["ttlSecondsAfterFinished"], partial(self._expire, *where))

    def _expire(self, plural: str, namespace: str, name: str, uid: str) -> None:
        """The TTL controller."""
        found = self.api.find(plural, namespace, name)
        if found and found["metadata"]["uid"] == uid:
            self.api.delete(plural, namespace, name, {}, who="ttl-controller")

    def _make_pod(self, job: Raw, index: int) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        labels = template["metadata"].get("labels", {}) | {CONTROLLER: meta["uid"]}
        if job["spec"].get("completionMode") == "Indexed":
            labels |= {INDEX: str(index)}
        reference = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{meta['name']}-{index}-{self.api.version:05x}",
                "labels": labels,
                "annotations": template["metadata"].get("annotations", {}),
                "ownerReferences": [reference],
                "finalizers": [TRACKING],
            },
            "spec": template["spec"],
        }
        made = self.api.create("pods", meta["namespace"], body, who=_WHO)
        name = made["metadata"]["name"]
        self.api.put_status("pods", meta["namespace"], name, {"phase": "Pending"}, who=_WHO)
