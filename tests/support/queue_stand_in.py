"""Kueue as far as a child Job notices it, for tests that are run often.

The real one is at work in tests/soak/test_kueue.py. What this one does was measured of it, with its
webhooks and its feature gate UnadmittedWorkloadsObservability (main of August 2026): it writes only
what Kueue writes: `suspend` of Jobs that carry the queue's label, their pod template on admission
(a label and an annotation of its own), the template as it was and no `startTime` on preemption,
and a Workload with the conditions that say why. Queues count Jobs, not resources. What it leaves
out: admission checks, flavors, priorities, cohorts, Kueue's own webhooks, and that an evicted
Workload keeps its quota until its pods have gone.
"""

from __future__ import annotations

import copy
import ssl
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

import httpx

from kubeseg_local.layout import LOOPBACK, Layout
from tests.support.cluster import TestCluster

GROUP, VERSION = "kueue.x-k8s.io", "v1beta2"
QUEUE = f"{GROUP}/queue-name"
JOB_UID = f"{GROUP}/job-uid"
POLL_S = 0.1

Raw = dict[str, Any]

_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
WORKLOADS: Raw = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": f"workloads.{GROUP}",
        "annotations": {
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/kueue/pull/2"
        },
    },
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Workload", "plural": "workloads", "singular": "workload"},
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": _ANYTHING, "status": _ANYTHING},
                    }
                },
            }
        ],
    },
}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _finished(job: Raw) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c["type"] in {"Complete", "Failed"} and c["status"] == "True" for c in conditions)


class QueueStandIn:
    """Looks after the Jobs of one namespace. `room`: queue → how many Jobs may run in it."""

    def __init__(self, cluster: TestCluster, namespace: str, room: Mapping[str, int]) -> None:
        pki = Layout(cluster.cluster.directory).pki
        tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        server = f"https://{LOOPBACK}:{cluster.settings.ports.api}"
        self._http = httpx.Client(base_url=server, verify=tls, trust_env=False)
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._workloads = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/workloads"
        self.room = dict(room)
        #: Pod templates as they were made, by the Job's UID.
        self._originals: dict[str, Raw] = {}
        #: UIDs of Jobs that were preempted, and whose template is not yet as it was.
        self._stopping: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue stand-in")
        self.trouble: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._http.close()
        if self.trouble is not None:
            raise self.trouble

    def _run(self) -> None:
        try:
            while not self._over.wait(POLL_S):
                self._step()
        except (AssertionError, httpx.HTTPError) as error:
            # Told where the test waits for it to end.
            self.trouble = error

    def _call(self, verb: str, path: str, body: Raw | None = None) -> Raw | None:
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        reply = self._http.request(verb, path, json=body, headers={"Content-Type": kind})
        if reply.status_code in {404, 409, 422}:
            # Gone, changed, there already or not to be changed yet: the next look tells.
            return None
        assert reply.is_success, f"{verb} {path}: {reply.text}"
        found: Raw = reply.json()
        return found

    def _step(self) -> None:
        listed = self._call("GET", f"{self._jobs}?labelSelector={QUEUE}") or {}
        jobs = [j for j in listed.get("items", []) if "deletionTimestamp" not in j["metadata"]]
        jobs.sort(key=lambda j: (j["metadata"]["creationTimestamp"], j["metadata"]["name"]))
        for queue in sorted({job["metadata"]["labels"][QUEUE] for job in jobs}):
            mine = [job for job in jobs if job["metadata"]["labels"][QUEUE] == queue]
            self._serve(queue, mine)

    def _serve(self, queue: str, jobs: list[Raw]) -> None:
        workloads = {job["metadata"]["uid"]: self._workload(job) for job in jobs}
        running = [job for job in jobs if not job["spec"].get("suspend") and not _finished(job)]
        room = self.room.get(queue)
        for job in running[room or 0 :]:
            self._preempt(job, workloads[job["metadata"]["uid"]])
        free = max(0, (room or 0) - len(running))
        for job in jobs:
            workload = workloads[job["metadata"]["uid"]]
            if _finished(job):
                self._say(workload, Finished=("True", "Succeeded", "Job finished"))
            elif not job["spec"].get("suspend") or not self._stopped(job):
                continue
            elif room is None:
                words = f"LocalQueue {queue} doesn't exist"
                self._say(workload, QuotaReserved=("False", "Misconfigured", words))
            elif free:
                free -= 1
                self._admit(job, workload)
            else:
                words = (
                    "couldn't assign flavors to pod set main: insufficient unused quota for pods "
                    "in flavor default, 1 more needed"
                )
                self._say(workload, QuotaReserved=("False", "WaitingForQuota", words))

    def _workload(self, job: Raw) -> Raw:
        meta = job["metadata"]
        name = f"job-{meta['name']}-{meta['uid'][:5]}"
        found = self._call("GET", f"{self._workloads}/{name}")
        if found is not None:
            return found
        self._originals.setdefault(meta["uid"], copy.deepcopy(job["spec"]["template"]))
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Workload",
            "metadata": {
                "name": name,
                "labels": {JOB_UID: meta["uid"]},
                "ownerReferences": [owner],
            },
            "spec": {"active": True, "queueName": meta["labels"][QUEUE]},
        }
        return self._call("POST", self._workloads, body) or body

    def _say(self, workload: Raw, **conditions: tuple[str, str, str]) -> None:
        known = (workload.get("status") or {}).get("conditions") or []
        old = {entry["type"]: entry for entry in known}
        new = dict(old)
        for kind, (status, reason, message) in conditions.items():
            told = {"type": kind, "status": status, "reason": reason, "message": message}
            if {**old.get(kind, {}), **told} != old.get(kind):
                new[kind] = told | {"lastTransitionTime": _now()}
        if new != old:
            path = f"{self._workloads}/{workload['metadata']['name']}/status"
            self._call("PATCH", path, {"status": {"conditions": list(new.values())}})

    def _admit(self, job: Raw, workload: Raw) -> None:
        self._say(
            workload,
            QuotaReserved=("True", "QuotaReserved", "Quota reserved"),
            Admitted=("True", "Admitted", "The workload is admitted"),
            Evicted=("False", "QuotaReserved", "Previously: Preempted"),
        )
        template = {
            "metadata": {
                "labels": {f"{GROUP}/podset": "main"},
                "annotations": {f"{GROUP}/workload": workload["metadata"]["name"]},
            }
        }
        self._change(job, {"spec": {"suspend": False, "template": template}})

    def _preempt(self, job: Raw, workload: Raw) -> None:
        words = "Preempted to accommodate a workload with a higher priority"
        self._say(
            workload,
            Evicted=("True", "Preempted", words),
            QuotaReserved=("False", "Pending", words),
            Admitted=("False", "NoReservation", "The workload has no reservation"),
        )
        self._stopping.add(job["metadata"]["uid"])
        self._change(job, {"spec": {"suspend": True}})

    def _stopped(self, job: Raw) -> bool:
        """Put the template of a preempted Job back; False: again at the next look. The Job
        controller may still write the start time that has to go first.
        """
        uid = job["metadata"]["uid"]
        if uid not in self._stopping:
            return True
        self._call("PATCH", f"{self._path(job)}/status", {"status": {"startTime": None}})
        original = self._originals[uid]["metadata"]
        restored = {
            "labels": {f"{GROUP}/podset": None, **original.get("labels", {})},
            "annotations": {f"{GROUP}/workload": None, **original.get("annotations", {})},
        }
        if self._change(job, {"spec": {"template": {"metadata": restored}}}) is None:
            return False
        self._stopping.remove(uid)
        return True

    def _path(self, job: Raw) -> str:
        return f"{self._jobs}/{job['metadata']['name']}"

    def _change(self, job: Raw, patch: Raw) -> Raw | None:
        only = {"metadata": {"uid": job["metadata"]["uid"]}}
        return self._call("PATCH", self._path(job), patch | only)
