"""Nodes, scripted: the scheduler, the kubelets, and the controllers of nodes that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kubeseg_types.names import TRAINER_CONTAINER
from tests.faults.api_model import ApiModel
from tests.faults.errands import Errand, is_errand
from tests.faults.objects import (
    condition,
    deleting,
    has_condition,
    index_of,
    owned_by_a_job,
    terminal,
    with_condition,
)
from tests.faults.trainer import Cluster, Ended, Trainer

Raw = dict[str, Any]
#: Seconds after a kubelet's last word until its pods are called unready, and from then until they
#: are evicted.
SILENT_AFTER, EVICTED_AFTER = 40.0, 300.0


@dataclass(slots=True)
class Nodes:
    """`poke` has an object looked at again; `release` has the Job controller let go of pods."""

    api: ApiModel
    cluster: Cluster
    trainers: dict[str, Trainer | Errand]
    poke: Callable[[str, str, str], None]
    release: Callable[[list[Raw]], None]
    _addresses: int = 0
    #: Ends that no kubelet has told yet, by the pod's UID.
    _untold: dict[str, Ended] = field(default_factory=dict)
    #: How often each node has been lost, so that an old timer does nothing.
    _losses: dict[str, int] = field(default_factory=dict)

    # The scheduler and the kubelet.

    def sync(self, pod: Raw) -> None:
        """Look at one pod, as it is now."""
        meta, status = pod["metadata"], pod.get("status", {})
        namespace, name, uid = meta["namespace"], meta["name"], meta["uid"]
        trainer = self.trainers.get(uid)
        if deleting(pod):
            self._end_pod(pod, trainer)
            return
        if terminal(pod) or not owned_by_a_job(pod):
            return
        node = pod["spec"].get("nodeName")
        if not node:
            self._schedule(pod)
        elif trainer is None and node not in self.cluster.lost:
            self._addresses += 1
            address = f"10.0.0.{self._addresses}"
            trainer = (
                Errand(self.cluster, pod, address)
                if is_errand(pod)
                else Trainer(self.api, self.cluster, pod, address)
            )
            self.trainers[uid] = trainer
            now = self.api.now()
            ready = [
                condition(kind, lastTransitionTime=now) for kind in ("ContainersReady", "Ready")
            ]
            told: Raw = {"phase": "Running", "podIP": trainer.address}
            told |= {"conditions": [*status.get("conditions", []), *ready]}
            told |= _state(running={"startedAt": now})
            self.api.put_status("pods", namespace, name, status | told, who="kubelet")
            trainer.start(lambda end: self._ended(namespace, name, uid, end))

    def _schedule(self, pod: Raw) -> None:
        meta = pod["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        scheduled = self.cluster.scheduled(self.api.now(), pod)
        status = pod.get("status", {}) | {"phase": "Pending", "conditions": [scheduled]}
        self.api.put_status("pods", namespace, name, status, who="scheduler")
        if scheduled["status"] == "True":
            where = {"nodeName": self.cluster.node_for(index_of(pod))}
            self.api.put_spec("pods", namespace, name, where, who="scheduler")
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(1.0, self.poke, "pods", namespace, name)

    def _end_pod(self, pod: Raw, trainer: Trainer | Errand | None) -> None:
        meta = pod["metadata"]
        if not any(
            reference["uid"] == job["metadata"]["uid"]
            for reference in meta.get("ownerReferences", [])
            for job in self.api.all("jobs")
        ):
            self.release([pod])
        if pod["spec"].get("nodeName") in self.cluster.lost:
            return
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
        if pod["spec"].get("nodeName") in self.cluster.lost:
            self._untold[uid] = end
            return
        status = dict(pod["status"]) | {"phase": "Failed" if end.code else "Succeeded"}
        unready = [c for c in status.get("conditions", []) if "Ready" not in c["type"]]
        status["conditions"] = unready
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

    # Nodes that fall silent.

    def lose(self, node: str, *, power: bool) -> None:
        """From now on nothing is heard of it; without `power` nothing runs on it either."""
        self.cluster.lost[node] = asyncio.get_running_loop().time()
        number = self._losses[node] = self._losses.get(node, 0) + 1
        if not power:
            for trainer in self._trainers_on(node):
                trainer.kill(Ended(137))
        loop = asyncio.get_running_loop()
        loop.call_later(SILENT_AFTER, self._unready, node, number)
        loop.call_later(SILENT_AFTER + EVICTED_AFTER, self._evict, node, number)

    def find(self, node: str) -> None:
        """It answers again: its kubelet tells what has become of its pods."""
        since = self.cluster.lost.pop(node)
        self.cluster.found[node] = (since, asyncio.get_running_loop().time())
        self._losses[node] += 1
        for trainer in self._trainers_on(node):
            known = self.api.find("pods", trainer.namespace, trainer.name)
            if known is None or known["metadata"]["uid"] != trainer.pod_uid:
                trainer.terminate(30.0)
        for pod in self._pods_on(node):
            meta = pod["metadata"]
            where = (meta["namespace"], meta["name"])
            end = self._untold.pop(meta["uid"], None)
            if end is not None:
                self._ended(*where, meta["uid"], end)
            elif not terminal(pod) and has_condition(pod, "ContainersReady"):
                ready = condition("Ready", lastTransitionTime=self.api.now())
                status = pod["status"] | {"conditions": with_condition(pod, ready)}
                self.api.put_status("pods", *where, status, who="kubelet")
            self.poke("pods", *where)

    def out_of_service(self, node: str) -> None:
        """Somebody says that it is off: what was to be deleted there is removed."""
        for pod in self._pods_on(node):
            if not deleting(pod):
                continue
            meta = pod["metadata"]
            where = (meta["namespace"], meta["name"])
            gone = condition("DisruptionTarget", reason="DeletionByPodGC")
            status = pod["status"] | {"phase": "Failed", "conditions": with_condition(pod, gone)}
            self.api.put_status("pods", *where, status, who="pod-gc")
            if self.api.find("pods", *where):
                self.api.delete("pods", *where, {"gracePeriodSeconds": 0}, who="pod-gc")

    def _trainers_on(self, node: str) -> list[Trainer]:
        return [
            trainer
            for trainer in self.trainers.values()
            if isinstance(trainer, Trainer) and trainer.node == node and not trainer.ended
        ]

    def _pods_on(self, node: str) -> list[Raw]:
        return [pod for pod in self.api.all("pods") if pod["spec"].get("nodeName") == node]

    def _unready(self, node: str, number: int) -> None:
        """The node controller: its pods are not ready, as far as anybody knows."""
        if self._losses[node] != number:
            return
        for pod in self._pods_on(node):
            if terminal(pod) or not has_condition(pod, "Ready"):
                continue
            meta = pod["metadata"]
            unready = condition("Ready", "False", lastTransitionTime=self.api.now())
            status = pod["status"] | {"conditions": with_condition(pod, unready)}
            self.api.put_status(
                "pods", meta["namespace"], meta["name"], status, who="node-controller"
            )

    def _evict(self, node: str, number: int) -> None:
        """The taint manager: pods that do not tolerate it for longer are deleted."""
        if self._losses[node] != number or self.cluster.tolerant:
            return
        for pod in self._pods_on(node):
            if terminal(pod) or deleting(pod):
                continue
            meta = pod["metadata"]
            where = (meta["namespace"], meta["name"])
            why = condition("DisruptionTarget", reason="DeletionByTaintManager")
            status = pod["status"] | {"conditions": with_condition(pod, why)}
            self.api.put_status("pods", *where, status, who="taint-manager")
            self.api.delete("pods", *where, {}, who="taint-manager")
        loop = asyncio.get_running_loop()
        # One that comes there before its taint is seen is evicted as well.
        loop.call_later(EVICTED_AFTER, partial(self._evict, node, number))


def _state(**state: Any) -> Raw:
    return {"containerStatuses": [{"name": TRAINER_CONTAINER, "state": state}]}
