"""Users and controllers that change objects at random, without regard to what makes sense."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from kubeseg_types.names import API_VERSION, KIND, LABEL_ATTEMPT, LABEL_JOB, PLURAL
from tests.faults.api_model import ApiModel
from tests.faults.objects import CONTROLLER, TRACKING, deleting

Raw = dict[str, Any]
NAMESPACES = ("blue", "green", "red")
#: Few names: they are used again and again.
_NAMES = ("a", "b", "c")
_WHO = "rash"
#: Objects of a kind, at most: a list of them takes some seconds.
_MOST = 12
_PLURALS = (PLURAL, "jobs", "pods")
_SPEC = {"dataset": {"name": "streets"}, "training": {"epochs": 12}}


class Rash:
    """One of them, who does one thing at a time."""

    def __init__(self, api: ApiModel, random: Random) -> None:
        self._api, self._random = api, random
        self._number = 0
        self._acts: dict[Callable[[], None], float] = {
            self._make_job: 2,
            self._make_child: 3,
            self._make_pod: 4,
            self._say: 8,
            self._delete: 4,
            self._finish: 3,
            self._label: 4,
            self.make_other: 1,
        }
        # Everybody has their habits: what is rare with one is frequent with another.
        for act in self._acts:
            self._acts[act] *= random.choice((0.2, 1.0, 3.0))

    def act(self) -> None:
        """Change something, or what has nothing to do with the operator."""
        (chosen,) = self._random.choices(list(self._acts), list(self._acts.values()))
        chosen()

    def make_other(self) -> None:
        """What the operator does not watch: the version goes on."""
        self._api.version += 1

    def _where(self) -> str:
        return self._random.choice(NAMESPACES)

    def _any(self, plural: str, which: Callable[[Raw], bool] = lambda _: True) -> Raw | None:
        found = [raw for raw in self._api.all(plural) if which(raw)]
        return self._random.choice(found) if found else None

    def _make(self, plural: str, namespace: str, body: Raw) -> None:
        crowded = sum(1 for _ in self._api.all(plural)) >= _MOST
        if not crowded and self._api.find(plural, namespace, body["metadata"]["name"]) is None:
            self._api.create(plural, namespace, body, who=_WHO)

    def _make_job(self) -> None:
        meta: Raw = {"name": self._random.choice(_NAMES)}
        if self._random.random() < 0.3:
            meta["finalizers"] = ["example.com/held"]
        self._make(PLURAL, self._where(), {"metadata": meta, "spec": _SPEC})

    def _make_child(self) -> None:
        """Of a TrainingJob, or nobody's: only its label names one."""
        owner = self._any(PLURAL)
        meta: Raw = {"labels": self._labels(self._random.choice(_NAMES))}
        namespace = self._where()
        if owner and self._random.random() < 0.5:
            namespace, name = owner["metadata"]["namespace"], owner["metadata"]["name"]
            meta["ownerReferences"] = [_reference(API_VERSION, KIND, owner)]
            meta["labels"] = self._labels(name)
            meta["name"] = f"{name}-{self._random.randint(1, 2)}"
        else:
            meta["name"] = f"foreign-{self._random.randint(1, 2)}"
        self._make("jobs", namespace, {"metadata": meta, "spec": {"parallelism": 1}})

    def _make_pod(self) -> None:
        """Of a Job, mostly with the label of its TrainingJob, or of nobody."""
        job = self._any("jobs")
        self._number += 1
        meta: Raw = {"name": f"pod-{self._number}", "labels": self._labels("a")}
        namespace = self._where()
        if job:
            namespace = job["metadata"]["namespace"]
            meta["labels"] = dict(job["metadata"].get("labels") or {})
            meta["labels"][CONTROLLER] = job["metadata"]["uid"]
            meta["ownerReferences"] = [_reference("batch/v1", "Job", job)]
            meta["finalizers"] = [TRACKING]
        if self._random.random() < 0.2:
            meta["name"] = "again"
        spec = {"nodeName": "node-a"} if self._random.random() < 0.5 else {}
        self._make("pods", namespace, {"metadata": meta, "spec": spec})

    def _labels(self, name: str) -> dict[str, str]:
        if self._random.random() < 0.1:
            return {}
        return {LABEL_JOB: name, LABEL_ATTEMPT: str(self._random.randint(1, 2))}

    def _say(self) -> None:
        """A new status: a TrainingJob's names an attempt, as the operator's own would."""
        plural = self._random.choice(_PLURALS)
        found = self._any(plural)
        if found is None:
            return
        self._number += 1
        name = found["metadata"]["name"]
        status: Raw = {"message": f"number {self._number}"}
        if plural == PLURAL:
            status["attempts"] = [{"number": 1, "jobName": f"{name}-1"}]
        if plural == "pods":
            status["phase"] = self._random.choice(("Pending", "Running", "Failed"))
        self._api.put_status(plural, found["metadata"]["namespace"], name, status, who=_WHO)

    def _delete(self) -> None:
        """At once, or marked, with somebody who has to do something first."""
        plural = self._random.choice(_PLURALS)
        found = self._any(plural)
        if found is not None:
            options = {"propagationPolicy": self._random.choice(("Foreground", "Background"))}
            meta = found["metadata"]
            self._api.delete(plural, meta["namespace"], meta["name"], options, who=_WHO)

    def _finish(self) -> None:
        """What is being deleted goes, and sometimes its namesake is there at once."""
        plural = self._random.choice(_PLURALS)
        found = self._any(plural, deleting)
        if found is None:
            return
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        for finalizer in found["metadata"].get("finalizers", []):
            self._api.drop_finalizer(plural, namespace, name, finalizer, _WHO)
        if self._api.find(plural, namespace, name):
            self._api.delete(plural, namespace, name, {"gracePeriodSeconds": 0}, who=_WHO)
        if self._random.random() < 0.3:
            kept = ("labels", "ownerReferences")
            meta = {each: found["metadata"][each] for each in kept if each in found["metadata"]}
            body = {"metadata": meta | {"name": name}, "spec": found.get("spec", {})}
            self._make(plural, namespace, body)

    def _label(self) -> None:
        """Take the label of a Job or pod away, put it back, or have it name another TrainingJob."""
        plural = self._random.choice(("jobs", "pods"))
        found = self._any(plural)
        if found is None:
            return
        meta = found["metadata"]
        labels = dict(meta.get("labels") or {})
        if labels.pop(LABEL_JOB, None) is None or self._random.random() < 0.5:
            labels[LABEL_JOB] = self._random.choice((*_NAMES, ""))
        self._api.put_metadata(plural, meta["namespace"], meta["name"], who=_WHO, labels=labels)


def _reference(version: str, kind: str, owner: Raw) -> Raw:
    meta = owner["metadata"]
    return {
        "apiVersion": version,
        "kind": kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
