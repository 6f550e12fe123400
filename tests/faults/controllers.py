"""The cluster's own controllers, scripted: what tells them of changes, and the garbage collector.

Level-triggered as the real ones: a change pokes an object, which is looked at a little later, as it
then is. They are never disturbed themselves; the operator's view of them is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kubeseg_types.names import PLURAL
from tests.faults.api_model import FOREGROUND, ORPHAN, ApiModel, Change
from tests.faults.errands import Errand
from tests.faults.job_controller import JobController
from tests.faults.nodes import Nodes
from tests.faults.objects import TRACKING, owned_by
from tests.faults.trainer import Cluster, Trainer

Raw = dict[str, Any]


@dataclass(slots=True)
class Controllers:
    """All of them. `cluster` says how long each takes, and what goes wrong."""

    api: ApiModel
    cluster: Cluster
    trainers: dict[str, Trainer | Errand] = field(default_factory=dict)
    jobs: JobController = field(init=False)
    nodes: Nodes = field(init=False)
    _poked: set[tuple[str, str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.jobs = JobController(self.api, self._later)
        self.nodes = Nodes(self.api, self.cluster, self.trainers, self._poke, self.jobs.release)
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
                self.jobs.sync(found)
            elif found and plural == "pods":
                self.nodes.sync(found)

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
