"""Kueue, scripted, as far as a Job notices it: it suspends, admits, preempts, and says why.

It writes what the real one writes (as measured; tests/support/queue_stand_in plays the same on a
real cluster): `suspend` of Jobs with the queue's label, no `startTime` after a preemption, and a
Workload for each. Queues count Jobs, not resources.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kubeseg_types.names import KUEUE_GROUP, LABEL_QUEUE, LABEL_WORKLOAD_JOB
from tests.faults.api_model import ApiModel
from tests.faults.objects import condition, deleting, finished, with_condition

Raw = dict[str, Any]
VERSION = "v1beta2"
_WHO, _PAUSE = "kueue", 0.3
_NO_ROOM = "couldn't assign flavors to pod set main: insufficient unused quota, 1 more needed"


@dataclass(slots=True)
class Kueue:
    """`room`: how many Jobs may run; None: the queue is not there."""

    api: ApiModel
    room: int | None = 1
    #: Its last eviction, as a Workload's conditions say it.
    _why: tuple[str, str] = ("Preempted", "Preempted to make room for another workload")
    _stopping: set[str] = field(default_factory=set)

    def install(self) -> None:
        """Be there."""
        self.api.groups[KUEUE_GROUP] = VERSION
        self._later()

    def preempt(self, room: int = 0) -> None:
        """From now on only so many Jobs have room."""
        self.room = room

    def deactivate(self, *, active: bool) -> None:
        """Somebody sets `spec.active` of all Workloads."""
        for found in list(self.api.all("workloads")):
            meta = found["metadata"]
            self.api.put_spec(
                "workloads", meta["namespace"], meta["name"], {"active": active}, who="user"
            )

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(_PAUSE, self._look)

    def _look(self) -> None:
        jobs = [
            job
            for job in self.api.all("jobs")
            if LABEL_QUEUE in job["metadata"].get("labels", {}) and not deleting(job)
        ]
        open_jobs = [job for job in jobs if not finished(job)]
        open_jobs.sort(key=lambda job: str(job["metadata"]["creationTimestamp"]))
        workloads = {job["metadata"]["uid"]: self._workload(job) for job in open_jobs}
        running = [job for job in open_jobs if not job["spec"].get("suspend")]
        active = [job for job in running if workloads[_uid(job)]["spec"]["active"]]
        for job in running:
            if job not in active[: self.room or 0]:
                self._stop(job, workloads[_uid(job)])
        free = max(0, (self.room or 0) - len(active))
        for job in open_jobs:
            if job["spec"].get("suspend") and job not in running:
                free -= self._consider(job, workloads[_uid(job)], free)
        self._later()

    def _workload(self, job: Raw) -> Raw:
        meta = job["metadata"]
        name = f"job-{meta['name']}-{meta['uid'][-5:]}"
        found = self.api.find("workloads", meta["namespace"], name)
        if found is not None:
            return found
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
        body = {
            "metadata": {
                "name": name,
                "labels": {LABEL_WORKLOAD_JOB: meta["uid"]},
                "ownerReferences": [owner | {"controller": True}],
            },
            "spec": {"active": True, "queueName": meta["labels"][LABEL_QUEUE]},
        }
        return self.api.create("workloads", meta["namespace"], body, who=_WHO)

    def _consider(self, job: Raw, workload: Raw, free: int) -> int:
        """Admit it, or say why not; how much room it takes."""
        meta = job["metadata"]
        if _uid(job) in self._stopping:
            # It can be changed again once it has no start time.
            status = {k: v for k, v in job.get("status", {}).items() if k != "startTime"}
            self.api.put_status("jobs", meta["namespace"], meta["name"], status, who=_WHO)
            self._stopping.discard(_uid(job))
            return 0
        if not workload["spec"]["active"]:
            self._say(workload, condition("QuotaReserved", "False", reason="Deactivated"))
        elif self.room is None:
            words = f"LocalQueue {workload['spec']['queueName']} doesn't exist"
            quota = condition("QuotaReserved", "False", reason="Misconfigured", message=words)
            self._say(workload, quota)
        elif free > 0:
            self._say(workload, condition("QuotaReserved", reason="QuotaReserved", message=""))
            self._patch(job, suspend=False)
            return 1
        else:
            quota = condition("QuotaReserved", "False", reason="WaitingForQuota", message=_NO_ROOM)
            self._say(workload, quota)
        return 0

    def _stop(self, job: Raw, workload: Raw) -> None:
        reason, words = self._why
        self._say(workload, condition("Evicted", reason=reason, message=words))
        self._stopping.add(_uid(job))
        self._patch(job, suspend=True)

    def _patch(self, job: Raw, **spec: Any) -> None:
        meta = job["metadata"]
        body = {"metadata": {"uid": meta["uid"]}, "spec": spec}
        self.api.patch("jobs", meta["namespace"], meta["name"], body, who=_WHO)

    def _say(self, workload: Raw, told: Raw) -> None:
        meta = workload["metadata"]
        known = self.api.get("workloads", meta["namespace"], meta["name"])
        status = known.get("status", {}) | {"conditions": with_condition(known, told)}
        self.api.put_status("workloads", meta["namespace"], meta["name"], status, who=_WHO)


def _uid(job: Raw) -> str:
    return str(job["metadata"]["uid"])
