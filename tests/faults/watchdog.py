"""The invariants, checked at every write: what must never be, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubeseg_operator.clock import parse
from kubeseg_types.names import LABEL_ATTEMPT, LABEL_CLEANUP_OF, PLURAL
from tests.faults.api_model import ApiModel, Change
from tests.faults.network import BEHIND
from tests.faults.objects import deleting, finished, owned_by
from tests.faults.process import BACKOFF
from tests.faults.trainer import Cluster

Raw = dict[str, Any]
#: Fields of an attempt's record that never change once they are set.
_FIXED = ("number", "jobName", "reservedTime", "uid", "startTime", "endTime", "outcome")


def true_conditions(status: Raw) -> list[Raw]:
    """The conditions that are true."""
    return [c for c in status.get("conditions", []) if c["status"] == "True"]


def is_true(status: Raw, kind: str) -> bool:
    """True where this condition is."""
    return any(c["type"] == kind for c in true_conditions(status))


@dataclass(slots=True)
class Life:
    """What has happened to one TrainingJob, by UID."""

    #: Attempt -> UIDs of the Jobs made for it.
    made: dict[int, list[str]] = field(default_factory=dict)
    reserved: set[int] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    was_suspended: bool = False


@dataclass(slots=True)
class Watchdog:
    """A write may be done by one who no longer knows how things stand (`stale`). What it makes must
    be gone again in the end; what it changes or deletes is guarded as ever.
    """

    api: ApiModel
    cluster: Cluster
    now: Callable[[], datetime]
    #: Names of the operators that are behind; True: any of them may be.
    stale: set[str] = field(default_factory=set)
    all_stale: bool = False
    findings: list[str] = field(default_factory=list)
    foreign: dict[tuple[str, str, str], Raw] = field(default_factory=dict)
    _lives: dict[str, Life] = field(default_factory=dict)
    _by_operator: set[str] = field(default_factory=set)
    _errands: set[str] = field(default_factory=set)
    #: UIDs of Jobs that were made late, and of those whose pods a lost node holds.
    _late: set[str] = field(default_factory=set)
    _given_up: set[str] = field(default_factory=set)
    #: Jobs as they were made, by UID.
    _made: dict[str, Raw] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api.listeners.append(self._heard)

    def say(self, finding: str) -> None:
        """Something that must not be."""
        if finding not in self.findings:
            self.findings.append(finding)

    def is_stale(self, who: str) -> bool:
        """True of a writer who may not know how things stand."""
        return self.all_stale or who in self.stale or who.endswith(BEHIND)

    def given_up(self, child: Raw) -> None:
        """The pods of this Job are on a lost node, and may go on there."""
        self._given_up.add(child["metadata"]["uid"])

    def as_made(self, child: Raw) -> Raw:
        """A Job as the operator made it, whatever others have changed of it."""
        return self._made.get(child["metadata"]["uid"], child)

    def trainers(self, uid: str) -> set[str]:
        """UIDs of the Jobs that have trainers, but for those that may be there."""
        running = set(self.cluster.training.get(uid, {}).values())
        return running - self._late - self._given_up

    # What has happened.

    def _heard(self, change: Change) -> None:
        meta = change.raw["metadata"]
        where = (change.plural, meta["namespace"], meta["name"])
        ours = change.who.startswith("op-")
        if ours and where in self.foreign and self.foreign[where]["metadata"]["uid"] == meta["uid"]:
            self.say(f"{change.who} has touched {where}, which is somebody else's")
        if change.plural == PLURAL:
            self._job_changed(change)
        elif change.plural == "jobs":
            if ours and change.kind == "ADDED":
                self._child_made(change.raw, change.who)
            if ours and change.kind != "ADDED":
                if change.kind == "DELETED" or deleting(change.raw):
                    self._by_operator.add(meta["uid"])
                if self.owner(change.raw, any_owner=True) is None:
                    self.say(f"{change.who} has changed Job {meta['name']}, of no TrainingJob")
        elif change.plural == "pods":
            self._pod_changed(change, ours=ours)

    def life(self, job: Raw) -> Life:
        """What has happened to this TrainingJob."""
        return self._lives.setdefault(job["metadata"]["uid"], Life())

    def owner(self, child: Raw, *, any_owner: bool = False) -> Raw | None:
        """The TrainingJob of a Job, whatever others have changed of it."""
        child = self.as_made(child)
        for job in self.api.all(PLURAL):
            if owned_by(child, job["metadata"]["uid"]):
                return job
        if any_owner:
            run = child["metadata"].get("labels", {}).get(LABEL_CLEANUP_OF)
            if any(owned_by(child, uid) or run == uid for uid in self._lives):
                return child
        return None

    def _job_changed(self, change: Change) -> None:
        life = self.life(change.raw)
        life.was_suspended |= bool(change.raw["spec"].get("suspend"))
        old, new = (change.before or {}).get("status", {}), change.raw.get("status", {})
        if change.kind != "MODIFIED" or old == new:
            return
        self._attempts_go_forward(change, life, old, new)
        self._ends_are_true(old, new)
        self._phases_go_forward(change.raw, old, new)
        if len(true_conditions(new)) > 1:
            self.say(f"several conditions are true: {true_conditions(new)}")
        uid = change.raw["metadata"]["uid"]
        suspended = is_true(new, "Suspended") and not is_true(old, "Suspended")
        stale = self.is_stale(change.who)
        if suspended and not stale and self.trainers(uid):
            self.say("Suspended is true, and a trainer still runs")
        run = self.cluster.runs.get(uid)
        claimed = new.get("progress", {}).get("epoch", 0)
        # Two who ask the same pod may write its answers out of order, as long as both work.
        if claimed < old.get("progress", {}).get("epoch", 0) and not (stale or self.stale):
            self.say("epochs go back")
        if claimed > (run.epoch if run else 0):
            self.say(f"epoch {claimed} is claimed, of {run.epoch if run else 0} that were trained")

    def _ends_are_true(self, old: Raw, new: Raw) -> None:
        """An attempt that is written off has no Job that lives, unless the job ends with it."""
        if is_true(new, "Complete") or is_true(new, "Failed"):
            return
        open_before = {a["number"] for a in old.get("attempts", []) if "endTime" not in a}
        for attempt in new.get("attempts", []):
            if attempt["number"] not in open_before or "endTime" not in attempt:
                continue
            for child in self.api.all("jobs"):
                alive = not finished(child) and not deleting(child)
                if child["metadata"]["uid"] == attempt.get("uid") and alive:
                    self.say(f"attempt {attempt['number']} is written off, and its Job lives")

    def _attempts_go_forward(self, change: Change, life: Life, old: Raw, new: Raw) -> None:
        before = {a["number"]: a for a in old.get("attempts", [])}
        after = new.get("attempts", [])
        numbers = [a["number"] for a in after]
        highest = max(before, default=0)
        if numbers != sorted(set(numbers)):
            self.say(f"attempts are out of order: {numbers}")
        if numbers and not highest <= numbers[-1] <= highest + 1:
            self.say(f"attempt {highest} is followed by {numbers[-1]}")
        if before and not numbers:
            self.say("the attempts are forgotten")
        if len(numbers) < min(10, highest):
            self.say(f"of {highest} attempts, only {numbers} are kept")
        if any("endTime" not in a for a in after[:-1]):
            self.say(f"two attempts have not ended: {numbers}")
        for attempt in after:
            self._goes_forward(life, before.get(attempt["number"], {}), attempt)
        self._reserves(change, life, old, after)

    def _goes_forward(self, life: Life, was: Raw, attempt: Raw) -> None:
        if attempt.get("preemptions", 0) < was.get("preemptions", 0):
            self.say(f"attempt {attempt['number']}: a preemption is forgotten")
        if "endTime" in attempt and "queuedTime" in attempt:
            self.say(f"attempt {attempt['number']} has ended, and waits in a queue")
        for name in _FIXED:
            if name in was and attempt.get(name) != was[name]:
                self.say(f"attempt {attempt['number']}: {name} has changed from {was[name]}")
        if "uid" in attempt:
            life.recorded.add(attempt["uid"])
            if attempt["uid"] not in life.made.get(attempt["number"], []):
                self.say(f"attempt {attempt['number']} bears the UID of another's Job")

    def _reserves(self, change: Change, life: Life, old: Raw, after: list[Raw]) -> None:
        """An attempt comes after its back-off, and when nothing of an earlier one trains."""
        for attempt in after:
            number = attempt["number"]
            if number in life.reserved:
                continue
            life.reserved.add(number)
            previous = [each for each in after if each["number"] == number - 1]
            self._reserved_too_early(previous[0] if previous else None, old)
            training = self.trainers(change.raw["metadata"]["uid"])
            if training and not self.is_stale(change.who):
                self.say(f"attempt {number} is reserved, and an earlier one trains")

    def _reserved_too_early(self, previous: Raw | None, old: Raw) -> None:
        wait = parse(old.get("retry", {}).get("notBefore"))
        if wait and self.now() < wait:
            self.say("an attempt begins before the back-off is over")
        if previous and "endTime" in previous and previous["outcome"] == "Failed":
            ended = parse(previous["endTime"])
            if ended and (self.now() - ended).total_seconds() < BACKOFF - 1:
                self.say("an attempt begins at once after a failure")

    def _phases_go_forward(self, job: Raw, old: Raw, new: Raw) -> None:
        if is_true(old, "Failed") and not is_true(new, "Failed"):
            self.say("a failed job has been reopened")
        if is_true(old, "Complete") and not is_true(new, "Complete"):
            finished_epochs = old["finished"]["epochs"]
            if job["spec"]["training"]["epochs"] <= finished_epochs:
                self.say("a job that succeeded has been reopened, without more epochs")
        over = is_true(new, "Failed") or is_true(new, "Complete")
        if over and any("endTime" not in a for a in new.get("attempts", [])):
            self.say("the job has ended, and an attempt of it has not")
        if over and not new.get("completionTime"):
            self.say("the job has ended, and no time says when")
        if new.get("phase") in {"Queued", "Suspended"} and "startTime" in new:
            self.say(f"the deadline's clock runs while the job is {new['phase']}")
        if new.get("phase") == "Queued" and "queueName" not in job["spec"]:
            self.say("a job without a queue waits in one")
        if new.get("observedGeneration", 0) < old.get("observedGeneration", 0):
            self.say("observedGeneration goes back")

    def _errand_made(self, child: Raw, job: Raw | None, *, late: bool) -> None:
        """A check comes before the first attempt; a clean-up once nothing writes any more."""
        name = child["metadata"]["name"]
        if name in self._errands and not late:
            self.say(f"Job {name} is made a second time")
        self._errands.add(name)
        run = child["metadata"]["labels"].get(LABEL_CLEANUP_OF)
        if run is not None:
            if self.trainers(run) and not late:
                self.say("a run is removed, and a trainer still writes to it")
        elif job and job.get("status", {}).get("attempts") and not late:
            self.say(f"Job {name} checks what already trains")

    def _child_made(self, child: Raw, who: str) -> None:
        meta, late = child["metadata"], self.is_stale(who)
        self._made[meta["uid"]] = child
        if late:
            self._late.add(meta["uid"])
        job = self.owner(child)
        if LABEL_ATTEMPT not in meta["labels"]:
            self._errand_made(child, job, late=late)
            return
        if job is None:
            return  # Deleted a moment ago: the garbage collector takes the Job, too.
        life, number = self.life(job), int(meta["labels"][LABEL_ATTEMPT])
        status = job.get("status", {})
        earlier = life.made.setdefault(number, [])
        if number not in life.reserved:
            self.say(f"Job {meta['name']} is made, and was never reserved")
        if any(uid in life.recorded or uid in self._by_operator for uid in earlier) and not late:
            self.say(f"attempt {number} is used twice")
        earlier.append(meta["uid"])
        if (is_true(status, "Failed") or is_true(status, "Complete")) and not late:
            self.say(f"a finished job makes Job {meta['name']}")
        attempts = status.get("attempts", [])
        current = attempts and attempts[-1]["number"] == number and "endTime" not in attempts[-1]
        if not current and not late:
            self.say(f"Job {meta['name']} is made for an attempt that has ended")
        active = [
            c["metadata"]["name"]
            for c in self.api.all("jobs", meta["namespace"])
            if owned_by(c, job["metadata"]["uid"])
            and not finished(c)
            and not deleting(c)
            and c["metadata"]["uid"] not in self._late
        ]
        if len(active) > 1 and not late:
            self.say(f"several attempts are active: {active}")

    def _pod_changed(self, change: Change, *, ours: bool) -> None:
        owners = [
            child
            for child in self.api.all("jobs", change.raw["metadata"]["namespace"])
            if owned_by(change.raw, child["metadata"]["uid"])
        ]
        if ours and not any(owned_by(change.raw, uid) for uid in self._made):
            self.say(f"{change.who} has changed pod {change.raw['metadata']['name']}, not its own")
        job = self.owner(owners[0]) if owners else None
        if job and len(self.trainers(job["metadata"]["uid"])) > 1:
            names = sorted(self.cluster.training[job["metadata"]["uid"]])
            self.say(f"two attempts train at a time: {names}")
