"""The cluster's own controllers, scripted: garbage collector, Job controller, scheduler, kubelet.

Level-triggered as the real ones: a change pokes an object, which is looked at a little later, as it
then is. They are never disturbed themselves; the operator's view of them is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kubeseg_types.names import PLURAL, TRAINER_CONTAINER
from tests.faults.api_model import FOREGROUND, ORPHAN, ApiModel, Change
from tests.faults.errands import Errand, is_errand
from tests.faults.trainer import Cluster, Ended, Trainer

Raw = dict[str, Any]
TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
CONTROLLER = "batch.kubernetes.io/controller-uid"
_NODE = "node-a"


def condition(kind: str, **fields: Any) -> Raw:
    """A condition that is true."""
    return {"type": kind, "status": "True"} | fields


def owned_by(raw: Raw, uid: str) -> bool:
    """True where this UID is among the owners."""
    return any(r["uid"] == uid for r in raw["metadata"].get("ownerReferences", []))


def conditions_of(raw: Raw) -> list[Raw]:
    """The conditions in status."""
    return list(raw.get("status", {}).get("conditions", []))


def finished(job: Raw) -> bool:
    """True of a Job that is Complete or Failed."""
    return any(c["type"] in {"Complete", "Failed"} for c in conditions_of(job))


def terminal(pod: Raw) -> bool:
    """True of a pod that has ended."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


@dataclass(slots=True)
class Controllers:
    """All of them. `cluster` says how long each takes, and what goes wrong."""

    api: ApiModel
    cluster: Cluster
    trainers: dict[str, Trainer | Errand] = field(default_factory=dict)
    _poked: set[tuple[str, str, str]] = field(default_factory=set)
    _addresses: int = 0

    def __post_init__(self) -> None:
        self.api.listeners.append(self._heard)

    def _heard(self, change: Change) -> None:
        meta = change.raw["metadata"]
        namespace, name, uid = meta["namespace"], meta["name"], meta["uid"]
        if change.kind == "DELETED":
            self._orphans(uid)
            for plural, other in self._owners(change.raw):
                self._poke(plural, namespace, other)
            return
        if change.plural == "jobs":
            self._poke("jobs", namespace, name)
        if change.plural == "pods":
            self._poke("pods", namespace, name)
            for plural, other in self._owners(change.raw):
                self._poke(plural, namespace, other)
        if change.kind == "ADDED" and meta.get("ownerReferences"):
            self._later(2.0, lambda: self._collect(change.plural, namespace, name))
        if ORPHAN in meta.get("finalizers", []):
            self._later(self.cluster.pace(0.05), lambda: self._set_free(change.plural, uid))
        if FOREGROUND in meta.get("finalizers", []) and "deletionTimestamp" in meta:
            self._later(self.cluster.pace(0.05), lambda: self._foreground(change.plural, uid))

    def _owners(self, raw: Raw) -> list[tuple[str, str]]:
        plural = {"Job": "jobs", "TrainingJob": PLURAL}
        references = raw["metadata"].get("ownerReferences", [])
        return [(plural[r["kind"]], r["name"]) for r in references if r["kind"] in plural]

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, what)

    def _poke(self, plural: str, namespace: str, name: str) -> None:
        what = (plural, namespace, name)
        if what in self._poked:
            return
        self._poked.add(what)

        def look() -> None:
            self._poked.discard(what)
            found = self.api.find(*what)
            if found is None:
                return
            if "deletionTimestamp" in found["metadata"]:
                self._foreground(plural, found["metadata"]["uid"])
            found = self.api.find(*what)
            if found and plural == "jobs":
                self._sync_job(found)
            elif found and plural == "pods":
                self._sync_pod(found)

        self._later(self.cluster.pace(0.1), look)

    # The garbage collector.

    def _orphans(self, uid: str) -> None:
        for plural, namespace, name in list(self.api.objects):
            if owned_by(self.api.objects[plural, namespace, name], uid):
                where = (plural, namespace, name)
                self._later(self.cluster.pace(0.5), partial(self._collect, *where))

    def _collect(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object of which all owners are gone."""
        found = self.api.find(plural, namespace, name)
        references = found["metadata"].get("ownerReferences", []) if found else []
        living = {raw["metadata"]["uid"] for raw in self.api.objects.values()}
        if found and references and all(r["uid"] not in living for r in references):
            self.api.delete(plural, namespace, name, {}, who="gc")

    def _by_uid(self, plural: str, uid: str) -> Raw | None:
        return next((r for r in self.api.all(plural) if r["metadata"]["uid"] == uid), None)

    def _set_free(self, plural: str, uid: str) -> None:
        """An owner that is deleted with --cascade=orphan leaves its dependents behind."""
        owner = self._by_uid(plural, uid)
        if owner is None:
            return
        for where in [w for w, raw in self.api.objects.items() if owned_by(raw, uid)]:
            meta = self.api.objects[where]["metadata"]
            left = [r for r in meta["ownerReferences"] if r["uid"] != uid]
            self.api.put_metadata(*where, who="gc", ownerReferences=left)
            self.api.drop_finalizer(*where, TRACKING, "job-controller")
        meta = owner["metadata"]
        self.api.drop_finalizer(plural, meta["namespace"], meta["name"], ORPHAN, "gc")

    def _foreground(self, plural: str, uid: str) -> None:
        owner = self._by_uid(plural, uid)
        if owner is None or FOREGROUND not in owner["metadata"].get("finalizers", []):
            return
        dependents = [where for where, raw in self.api.objects.items() if owned_by(raw, uid)]
        for where in dependents:
            if "deletionTimestamp" not in self.api.objects[where]["metadata"]:
                self.api.delete(*where, {}, who="gc")
        meta = owner["metadata"]
        if not [where for where, raw in self.api.objects.items() if owned_by(raw, uid)]:
            self.api.drop_finalizer(plural, meta["namespace"], meta["name"], FOREGROUND, "gc")

    # The Job controller.

    def _sync_job(self, job: Raw) -> None:
        meta, spec = job["metadata"], job["spec"]
        pods = [p for p in self.api.all("pods", meta["namespace"]) if owned_by(p, meta["uid"])]
        if finished(job) or "deletionTimestamp" in meta:
            self._release(pods)
            if "deletionTimestamp" in meta or finished(job):
                return
        status = dict(job.get("status", {}))
        if spec.get("suspend"):
            return
        if "startTime" not in status:
            status["startTime"] = self.api.now()
        made = int(status.get("made", 0))
        failed = any(p["status"].get("phase") == "Failed" for p in pods) or (
            # A pod that has vanished without its finalizer's leave was forced away.
            made > len(pods)
        )
        complete = bool(pods) and all(p["status"].get("phase") == "Succeeded" for p in pods)
        ended = ""
        if failed:
            ended = self._fail(pods)
        elif complete and len(pods) >= spec.get("completions", 1):
            ended = "Complete"
        elif not made:
            status["made"] = spec.get("parallelism", 1)
        if ended:
            reason = "CompletionsReached" if ended == "Complete" else "BackoffLimitExceeded"
            now = self.api.now()
            status["conditions"] = [
                condition(ended, reason=reason, message="as told", lastTransitionTime=now)
            ]
        self.api.put_status("jobs", meta["namespace"], meta["name"], status, who="job-controller")
        if not made and not failed:
            for index in range(spec.get("parallelism", 1)):
                self._make_pod(job, index)
        if ended:
            self._release(pods)
            if "ttlSecondsAfterFinished" in spec:
                where = ("jobs", meta["namespace"], meta["name"], meta["uid"])
                self._later(spec["ttlSecondsAfterFinished"], partial(self._expire, *where))

    def _expire(self, plural: str, namespace: str, name: str, uid: str) -> None:
        """The TTL controller."""
        found = self.api.find(plural, namespace, name)
        if found and found["metadata"]["uid"] == uid:
            self.api.delete(plural, namespace, name, {}, who="ttl-controller")

    def _fail(self, pods: list[Raw]) -> str:
        """One pod has failed: the others are ended; "Failed" once all have."""
        for pod in pods:
            if not terminal(pod) and "deletionTimestamp" not in pod["metadata"]:
                meta = pod["metadata"]
                self.api.delete("pods", meta["namespace"], meta["name"], {}, who="job-controller")
        return "Failed" if all(terminal(pod) for pod in pods) else ""

    def _release(self, pods: list[Raw]) -> None:
        for pod in pods:
            meta = pod["metadata"]
            if terminal(pod) or "deletionTimestamp" in meta:
                self.api.drop_finalizer(
                    "pods", meta["namespace"], meta["name"], TRACKING, "job-controller"
                )

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
                "name": f"{meta['name']}-{index}-{meta['uid'][-5:]}",
                "labels": labels,
                "annotations": template["metadata"].get("annotations", {}),
                "ownerReferences": [reference],
                "finalizers": [TRACKING],
            },
            "spec": template["spec"],
        }
        made = self.api.create("pods", meta["namespace"], body, who="job-controller")
        name = made["metadata"]["name"]
        self.api.put_status(
            "pods", meta["namespace"], name, {"phase": "Pending"}, who="job-controller"
        )

    # The scheduler and the kubelet.

    def _sync_pod(self, pod: Raw) -> None:
        meta, status = pod["metadata"], pod.get("status", {})
        namespace, name, uid = meta["namespace"], meta["name"], meta["uid"]
        trainer = self.trainers.get(uid)
        if "deletionTimestamp" in meta:
            self._end_pod(pod, trainer)
            return
        if terminal(pod) or not owned_by_a_job(pod):
            return
        if not pod["spec"].get("nodeName"):
            scheduled = self.cluster.scheduled(self.api.now())
            status = status | {"phase": "Pending", "conditions": [scheduled]}
            self.api.put_status("pods", namespace, name, status, who="scheduler")
            if scheduled["status"] == "True":
                self.api.put_spec("pods", namespace, name, {"nodeName": _NODE}, who="scheduler")
            else:
                self._later(1.0, lambda: self._poke("pods", namespace, name))
        elif trainer is None:
            self._addresses += 1
            address = f"10.0.0.{self._addresses}"
            trainer = (
                Errand(self.cluster, pod, address)
                if is_errand(pod)
                else Trainer(self.api, self.cluster, pod, address)
            )
            self.trainers[uid] = trainer
            running = {"startedAt": self.api.now()}
            self.api.put_status(
                "pods",
                namespace,
                name,
                status | {"phase": "Running", "podIP": trainer.address} | _state(running=running),
                who="kubelet",
            )
            trainer.start(lambda end: self._ended(namespace, name, uid, end))

    def _end_pod(self, pod: Raw, trainer: Trainer | Errand | None) -> None:
        meta = pod["metadata"]
        if not any(owned_by(pod, job["metadata"]["uid"]) for job in self.api.all("jobs")):
            self._release([pod])
        if trainer is not None and not trainer.ended:
            trainer.terminate(float(meta.get("deletionGracePeriodSeconds", 30)))
        elif self.api.find("pods", meta["namespace"], meta["name"]) is None:
            return
        elif not terminal(pod):
            status = pod.get("status", {}) | {"phase": "Failed"}
            self.api.put_status("pods", meta["namespace"], meta["name"], status, who="kubelet")
        elif meta.get("deletionGracePeriodSeconds"):
            options = {"gracePeriodSeconds": 0}
            self.api.delete("pods", meta["namespace"], meta["name"], options, who="kubelet")

    def _ended(self, namespace: str, name: str, uid: str, end: Ended) -> None:
        pod = self.api.find("pods", namespace, name)
        if pod is None or pod["metadata"]["uid"] != uid:
            return
        status = dict(pod["status"]) | {"phase": "Failed" if end.code else "Succeeded"}
        if end.pod_reason:
            # Evicted: the container's own end is not told.
            status |= {"reason": end.pod_reason, "message": "as the node says"}
            status.pop("containerStatuses", None)
        else:
            started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
            status |= _state(
                terminated={
                    "exitCode": end.code,
                    "reason": end.reason or ("Error" if end.code else "Completed"),
                    "message": end.message,
                    "startedAt": started,
                    "finishedAt": self.api.now(),
                }
            )
        self.api.put_status("pods", namespace, name, status, who="kubelet")


def owned_by_a_job(pod: Raw) -> bool:
    """Other pods are nobody's business here."""
    return any(r["kind"] == "Job" for r in pod["metadata"].get("ownerReferences", []))


def _state(**state: Any) -> Raw:
    return {"containerStatuses": [{"name": TRAINER_CONTAINER, "state": state}]}
