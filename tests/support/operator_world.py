"""A TrainingJob, an API server in memory and an operator that can be replaced at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.decide import Settings
from kubeseg_operator.poller import Poller
from kubeseg_operator.reconcile import Reconciler
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import Intake
from tests.support.fake_api import FakeApi
from tests.support.operator_objects import NOW, RUNNING, raw_job, terminated

KEY = Key("team", "job")


@dataclass
class World:
    """An API server, and an operator that can be replaced by a fresh one at any time."""

    poller: Poller
    api: FakeApi = field(default_factory=FakeApi)
    now: datetime = NOW
    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        self.restart()
        self.api.put("trainingjobs", raw_job())

    def restart(self) -> None:
        """A new operator: nothing is known but what is listed."""
        self.store = Store()
        self.intake = Intake(self.store, lambda _key: None)
        self.reconciler = Reconciler(
            self.api,  # type: ignore[arg-type]
            self.store,
            self.poller,
            Settings(image="trainer:1", backoff_seconds=10),
            clock=lambda: self.now,
        )
        self.api.untold.clear()
        for plural in ("trainingjobs", "jobs", "pods"):
            for found in self.api.all(plural):
                self.api._tell(plural, found, deleted=False)

    async def visit(self, *, told: bool = True) -> float | None:
        """One visit, after the watches have told their news (or not: a stale store)."""
        if told:
            self.api.tell(self.intake)
        return await self.reconciler.visit(KEY)

    async def settle(self) -> None:
        """Visit until nothing is written, whatever fails on the way."""
        for _ in range(12):
            before = len(self.api.writes)
            try:
                await self.visit()
            except (ApiError, ApiUnreachableError):
                continue
            if len(self.api.writes) == before:
                return
        raise AssertionError(f"it does not settle: {self.api.writes}")

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.api.objects["trainingjobs", *KEY]["status"]
        return status

    @property
    def jobs(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.api.all("jobs")]

    def events(self) -> list[str]:
        return [event["reason"] for event in self.api.all("events")]

    def run_pod(self, attempt: int | str = 1) -> None:
        """Play controller, scheduler and kubelet: the pod of the Job `job-<attempt>` runs."""
        owner = self.api.objects["jobs", "team", f"job-{attempt}"]
        template = owner["spec"]["template"]["metadata"]
        self.api.put(
            "pods",
            {
                "metadata": {
                    "name": f"job-{attempt}-0-x",
                    "namespace": "team",
                    "labels": template["labels"],
                    "annotations": template.get("annotations", {}),
                    "ownerReferences": [
                        {"kind": "Job", "uid": owner["metadata"]["uid"], "controller": True}
                    ],
                },
                "spec": {"nodeName": "node-a"},
                "status": {
                    "phase": "Running",
                    "containerStatuses": [{"name": "trainer", "state": RUNNING}],
                },
            },
        )

    def end_pod(self, code: int, attempt: int | str = 1, message: str = "") -> None:
        """Its trainer ends, and the Job controller counts it."""
        state = terminated(code, message=message)
        status = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": state}],
        }
        self.api.change("pods", "team", f"job-{attempt}-0-x", status=status)
        condition = {"type": "Failed" if code else "Complete", "status": "True"}
        self.api.change("jobs", "team", f"job-{attempt}", status={"conditions": [condition]})

    def collect(self) -> None:
        """Play the garbage collector and the Job controller: what is being deleted is gone."""
        for job in self.api.all("jobs"):
            if "deletionTimestamp" in job["metadata"]:
                for pod in self.api.all("pods"):
                    if pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]:
                        self.api.remove("pods", "team", pod["metadata"]["name"])
                self.api.remove("jobs", "team", job["metadata"]["name"])


def writes(world: World, since: int = 0) -> list[str]:
    """The writes since the one with this number, events aside."""
    return [write for write in world.api.writes[since:] if write != "create events"]


def on(verb: str, part: str) -> Any:
    """What a fault matches: a verb, and a part of the path."""
    return lambda called, path: called == verb and part in path
