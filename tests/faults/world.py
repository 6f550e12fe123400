"""One run of one schedule: the cluster, its users, and operators that come and go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kubeseg_operator.clock import stamp
from kubeseg_types.names import (
    API_VERSION,
    DEFAULT_CLAIM,
    KIND,
    PLURAL,
)
from tests.faults import virtual_time
from tests.faults.api_model import ApiModel, RefusedError
from tests.faults.controllers import Controllers
from tests.faults.expectation import shortcomings
from tests.faults.kueue import Kueue
from tests.faults.network import Traffic
from tests.faults.objects import finished, owned_by, terminal
from tests.faults.process import OperatorProcess, clock
from tests.faults.requests import Requests
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.schedule import Schedule
from tests.faults.strangers import NAME, SPACE
from tests.faults.surprises import surprises
from tests.faults.trainer import Cluster
from tests.faults.watchdog import Watchdog

Raw = dict[str, Any]
#: Seconds in which everything has converged: less than an audit takes, or several of them where
#: events get lost, or one who knows no better has been at work.
PATIENCE, PATIENCE_WITH_AUDITS = 290.0, 3000.0
#: Seconds after which nothing is written any more, and for which nothing must be.
SETTLED, QUIET = 75.0, 660.0
#: Where events get lost, only audits settle it.
SETTLED_BY_AUDITS = 680.0
_RESTART = 3.0
#: Seconds that the operator may need to ask a pod again that could not be reached.
_LONGEST_POLL = 40.0


@dataclass(slots=True)
class Outcome:
    """What came of a schedule: no findings, if all is well."""

    schedule: Schedule
    findings: list[str]
    writes: int
    calls: int
    story: str
    events: str
    log: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What was run."""
        return str(self.schedule)

    @property
    def again(self) -> str:
        """What `python -m tests.faults` has to be told to run it once more."""
        return f'--replay "{self.schedule}"'


class World:
    """What scenarios act on."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.scenario: Scenario = SCENARIOS[schedule.scenario]
        self.random = Random(f"{schedule.seed}/world")
        self.api = ApiModel(lambda: stamp(clock()))
        spread = 1.0 if schedule.jitter else 0.0
        self.cluster = Cluster(Random(f"{schedule.seed}/cluster"), spread)
        self.cluster.mishaps[NAME] = self.scenario.mishaps
        if self.scenario.check:
            self.cluster.checks[NAME] = self.scenario.check
        self.cluster.has_room = self.scenario.has_room
        self.cluster.deaf = frozenset({NAME} if self.scenario.deaf else ())
        self.dog = Watchdog(self.api, self.cluster, clock)
        self.controllers = Controllers(self.api, self.cluster)
        self.kueue = Kueue(self.api)
        modes = ["ReadWriteMany" if self.scenario.shared else "ReadWriteOnce"]
        claim = {"metadata": {"name": DEFAULT_CLAIM}, "spec": {"accessModes": modes}}
        self.api.create("persistentvolumeclaims", SPACE, claim, who="user")
        requests = Requests(self.dog, lossy=self._needs_audits)
        self.traffic = Traffic(self.api, schedule, requests.inspect, self.dog.say)
        self.operators: list[OperatorProcess] = []
        self._started = 0
        #: Until when nothing could be heard of its pods.
        self._unheard = -_LONGEST_POLL
        self._retired: set[str] = set()

    # What users see and do.

    def job(self) -> Raw:
        """The TrainingJob, or {}."""
        return self.api.find(PLURAL, SPACE, NAME) or {}

    def status(self) -> Raw:
        """Its status, or {}."""
        status: Raw = self.job().get("status", {})
        return status

    def uid(self) -> str:
        """Its UID, or ""."""
        return str(self.job().get("metadata", {}).get("uid", ""))

    def epochs(self) -> int:
        """Epochs that were trained, as the workspace has them."""
        run = self.cluster.runs.get(self.uid())
        return run.epoch if run else 0

    def starts(self) -> int:
        """How often its trainer was started."""
        run = self.cluster.runs.get(self.uid())
        return run.starts if run else 0

    def training(self) -> bool:
        """A trainer of it runs."""
        return bool(self.cluster.training.get(self.uid()))

    def children(self) -> list[Raw]:
        """Its Jobs."""
        return [c for c in self.api.all("jobs", SPACE) if owned_by(c, self.uid())]

    def pods(self) -> list[Raw]:
        """Its pods that have not ended."""
        names = {
            trainer.name for trainer in self.controllers.trainers.values() if not trainer.ended
        }
        uids = [c["metadata"]["uid"] for c in self.children()]
        return [
            pod
            for pod in self.api.all("pods", SPACE)
            if not terminal(pod)
            and (pod["metadata"]["name"] in names or any(owned_by(pod, uid) for uid in uids))
        ]

    async def hesitate(self) -> None:
        """Users act at once, unless the schedule says otherwise."""
        if self.schedule.jitter:
            await asyncio.sleep(self.random.choice((0.0, 0.05, 0.3, 1.0, 4.0, 15.0)))

    def apply(self) -> None:
        """Create the TrainingJob."""
        spec = {"dataset": {"name": "d"}, "training": {"epochs": self.scenario.epochs}}
        self.put_job(NAME, spec | self.scenario.spec)

    def put_job(self, name: str, spec: Raw) -> None:
        """Create a TrainingJob of this name."""
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
        self.api.create(PLURAL, SPACE, body, who="user")

    def edit(self, **spec: Any) -> None:
        """Change the spec, if the TrainingJob is still there."""
        if self.job():
            self.api.patch(PLURAL, SPACE, NAME, {"spec": spec}, who="user")

    def delete_job(self, policy: str = "Background") -> None:
        """Delete the TrainingJob."""
        if self.job():
            self.api.delete(PLURAL, SPACE, NAME, {"propagationPolicy": policy}, who="user")

    def delete_pods(self, at_most: int = 99, *, force: bool = False) -> None:
        """Delete its pods, as `kubectl delete pod` does, or `kubectl delete pod --force`."""
        options = {"gracePeriodSeconds": 0} if force else {}
        for pod in self.pods()[-at_most:]:
            self.api.delete("pods", SPACE, pod["metadata"]["name"], options, who="user")

    def label_pods(self, labels: Raw) -> None:
        """Change labels of its pods, as `kubectl label pod` does."""
        for pod in self.pods():
            name, patch = pod["metadata"]["name"], {"metadata": {"labels": labels}}
            self.api.patch("pods", SPACE, name, patch, who="user")

    def change_children(self, **patch: Any) -> None:
        """Change its Jobs that have not ended, as `kubectl patch job` does."""
        for child in self.children():
            if not finished(child):
                self.api.patch("jobs", SPACE, child["metadata"]["name"], patch, who="user")

    def lose_node(self, *, power: bool) -> None:
        """The first node falls silent; without `power` all that runs on it is gone, too."""
        self.controllers.nodes.lose(self.cluster.nodes[0], power=power)

    def find_node(self) -> None:
        """It answers again."""
        self.controllers.nodes.find(self.cluster.nodes[0])

    def taint_node(self) -> None:
        """Somebody says that it is off (`out-of-service`)."""
        self.controllers.nodes.out_of_service(self.cluster.nodes[0])

    def delete_children(self, policy: str = "Background") -> None:
        """Delete its Jobs, as `kubectl delete job` does."""
        options = {"propagationPolicy": policy}
        for child in self.children():
            self.api.delete("jobs", SPACE, child["metadata"]["name"], options, who="user")

    def refuse_jobs(self, words: str | None) -> None:
        """Let quota refuse new Jobs; None: no longer."""

        def refuse(plural: str, _body: Raw) -> None:
            if plural == "jobs" and words:
                raise RefusedError(403, "Forbidden", words)

        self.api.admission = refuse

    # Operators.

    def start_operator(self) -> OperatorProcess:
        """A new process."""
        self._started += 1
        name = f"op-{self._started}"
        made = OperatorProcess(name, self.traffic, self.schedule, self.controllers, self._died)
        self.operators.append(made)
        return made

    def _died(self, operator: OperatorProcess) -> None:
        self.operators.remove(operator)
        if operator.who not in self._retired:
            asyncio.get_running_loop().call_later(_RESTART, self.start_operator)

    def _twin(self) -> None:
        """From now on any of them may be behind the others."""
        self.dog.all_stale = True
        self.start_operator()

    def _retire(self, operator: OperatorProcess) -> None:
        self._retired.add(operator.who)
        operator.kill()

    def kill_operator(self) -> None:
        """SIGKILL for the one that has worked longest."""
        if self.operators:
            self.operators[0].kill()
            self._unheard = asyncio.get_running_loop().time() + _RESTART

    def _freeze(self) -> None:
        assert self.schedule.freeze
        if not self.operators:
            return
        frozen = self.operators[0]
        self._retired.add(frozen.who)
        frozen.freeze()
        self.start_operator()
        loop = asyncio.get_running_loop()
        loop.call_later(self.schedule.freeze.seconds, frozen.wake)
        loop.call_later(self.schedule.freeze.seconds + 20, self._retire, frozen)
        self.dog.stale.add(frozen.who)

    def cut_watches(self, plural: str, seconds: float) -> None:
        """All watches of a kind end, and begin anew after so long."""
        for operator in self.operators:
            operator.feed.cut(plural, seconds)
        self._unheard = asyncio.get_running_loop().time() + seconds

    # The run.

    async def run(self) -> Outcome:
        """Live through the schedule."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.dog.say(f"loop: {context}"))
        for at in self.schedule.kills:
            loop.call_at(at, self.kill_operator)
        if self.schedule.freeze:
            loop.call_at(self.schedule.freeze.at, self._freeze)
        if self.schedule.twin is not None:
            loop.call_at(self.schedule.twin, self._twin)
        if self.schedule.dark:
            self.cluster.unreachable = True
            loop.call_at(self.schedule.dark, setattr, self.cluster, "unreachable", False)
        if "queueName" in self.scenario.spec and self.scenario.kueue:
            self.kueue.install()
        self.start_operator()
        if self.schedule.calm:
            self._monitor = loop.create_task(self._watch_progress())
        if self.scenario.before:
            await self.scenario.before(self)
        await asyncio.sleep(0.5)
        self.apply()
        if self.scenario.act:
            await self.scenario.act(self)
        await self._converge()
        return self._outcome()

    @property
    def _needs_audits(self) -> bool:
        watching = self.schedule.watching
        return bool(watching.drop or watching.cut or self.schedule.late_writers)

    async def _watch_progress(self) -> None:
        """With nothing going wrong, an epoch's end is in status within a second."""
        seen: dict[tuple[str, int, int], float] = {}
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.25)
            if self.cluster.lost or self.cluster.unreachable:
                self._unheard = loop.time()
            what = (self.uid(), self.epochs(), self.starts())
            since = seen.setdefault(what, loop.time())
            known = self.status().get("progress", {}).get("epoch", 0)
            heard = loop.time() - self._unheard > _LONGEST_POLL
            heard &= "deletionTimestamp" not in self.job().get("metadata", {})
            if known < what[1] and loop.time() - since > 2.0 and self.training() and heard:
                self.dog.say(f"epoch {what[1]} has ended, and status tells of {known}")

    async def _converge(self) -> None:
        loop = asyncio.get_running_loop()
        horizon = [0.0, *self.schedule.kills, self.schedule.dark, self.schedule.twin or 0.0]
        if self.schedule.freeze:
            horizon.append(self.schedule.freeze.at + self.schedule.freeze.seconds + 21)
        await asyncio.sleep(max(0.0, max(horizon) - loop.time()))
        patience = PATIENCE_WITH_AUDITS if self._needs_audits else PATIENCE
        until = loop.time() + max(patience, self.scenario.patience)
        while (missing := shortcomings(self)) and loop.time() < until:
            if self.dog.findings:
                break
            await asyncio.sleep(2.0)
        if missing:
            self.dog.say(f"it does not converge: {'; '.join(missing)}")
        if self.dog.findings:
            return
        self.traffic.over = True
        await asyncio.sleep(SETTLED_BY_AUDITS if self._needs_audits else SETTLED)
        await self._quiet("in the end", QUIET)
        for operator in list(self.operators):
            operator.kill()
        await self._quiet("by a new operator, in the end", 30.0)

    async def _quiet(self, when: str, seconds: float) -> None:
        before = len(self.traffic.done)
        await asyncio.sleep(seconds)
        if len(self.traffic.done) > before:
            self.dog.say(f"written {when}: {self.traffic.done[before : before + 5]}")
        for missing in shortcomings(self):
            self.dog.say(f"{when} no longer so: {missing}")

    def _outcome(self) -> Outcome:
        traffic = self.traffic
        events = sorted(
            (e for e in self.api.all("events", SPACE) if e["involvedObject"]["name"] == NAME),
            key=lambda e: int(e["metadata"]["resourceVersion"]),
        )
        attempts = self.status().get("attempts", [])
        told = " ".join(event["reason"] for event in events)
        if self.scenario.events not in {None, told} and not self.schedule.disturbed:
            self.dog.say(f"events {told!r}, not {self.scenario.events!r}")
        return Outcome(
            self.schedule,
            list(self.dog.findings),
            traffic.writes,
            traffic.writes + traffic.reads,
            " ".join(f"{a.get('outcome')}/{a.get('reason')}" for a in attempts),
            told,
            list(traffic.done),
        )


def run(schedule: Schedule) -> Outcome:
    """One schedule, from the beginning to the end."""

    async def live() -> Outcome:
        world = World(schedule)
        with surprises(world.dog.say):
            return await world.run()

    return virtual_time.run(live())


__all__ = ["Outcome", "World", "finished", "run"]
