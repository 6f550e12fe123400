"""Trainers, scripted: they train in no time, and keep the contract as the operator sees it.

What they do follows from the run's own history in the workspace, never from an attempt's number, so
that a disturbed operator sees the same trainings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kubeseg_types.base import duration_seconds
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import ANNOTATION_CONFIG
from kubeseg_types.status import CheckpointPointer, EpochMetrics
from kubeseg_types.trainer import EpochRecord, Part, Progress, TerminationMessage
from tests.faults.api_model import ApiModel

Raw = dict[str, Any]
EPOCH_SECONDS = 4.0
START_SECONDS = 1.0
#: Seconds after a node's last word until no more pods are bound to it.
TAINTED_AFTER = 40.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trainer's container ended."""

    code: int
    message: str = ""
    reason: str = ""
    pod_reason: str = ""
    #: Its kubelet had it killed, since it did not answer its liveness probe.
    unresponsive: bool = False


@dataclass(frozen=True, slots=True)
class Mishap:
    """What happens to a training that has reached `epoch`, the first `times` times."""

    epoch: int
    end: Ended
    times: int = 1
    #: No step ends any more; its own watchdog ends it after `training.stallTimeout`.
    stalls: bool = False
    #: What it says then, in place of what the script says.
    words: str = ""
    worker: int = 0


@dataclass(slots=True)
class Run:
    """A run in the workspace, by the TrainingJob's UID."""

    epoch: int = 0
    starts: int = 0
    met: list[int] = field(default_factory=list)
    #: A clean-up has taken its folder away.
    removed: bool = False


@dataclass(slots=True)
class Cluster:
    """What the world is like: how fast it is, what goes wrong, what the workspace holds."""

    random: Random
    #: 0: every step takes its nominal time; else up to so many times as long.
    spread: float = 0.0
    mishaps: dict[str, tuple[Mishap, ...]] = field(default_factory=dict)
    #: Trainers of these jobs ignore SIGTERM.
    deaf: frozenset[str] = frozenset()
    has_room: bool = True
    #: Priority class of pods for which there is never room.
    never_room_for: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    #: How the checks of these jobs' data sets end, where not well.
    checks: dict[str, int] = field(default_factory=dict)
    #: The pods that train right now, by the TrainingJob's UID: name -> UID of its Job.
    training: dict[str, dict[str, str]] = field(default_factory=dict)
    #: How worker 0 of a Job has ended, by the Job's UID: the others end with it.
    ends: dict[str, int] = field(default_factory=dict)
    #: Pods that cannot be reached for now.
    unreachable: bool = False
    #: Pods tolerate a lost node for ever.
    tolerant: bool = False
    nodes: tuple[str, ...] = ("node-a", "node-b")
    #: Nodes that do not answer, and since when; those that do again: from when to when they didn't.
    lost: dict[str, float] = field(default_factory=dict)
    found: dict[str, tuple[float, float]] = field(default_factory=dict)

    def pace(self, seconds: float) -> float:
        """How long a step of so many seconds takes here."""
        return seconds * (1.0 + self.spread * self.random.random())

    def node_for(self, index: int) -> str:
        """Where this worker's pod goes: the node controller's taint is heeded once it is there."""
        now = asyncio.get_running_loop().time()
        free = [n for n in self.nodes if now - self.lost.get(n, now) < TAINTED_AFTER]
        return free[index % len(free)]

    def scheduled(self, now: str, pod: Raw) -> Raw:
        """What the scheduler says of a pod."""
        priority = pod["spec"].get("priorityClassName")
        if self.has_room and (priority is None or priority != self.never_room_for):
            return {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
        return {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory.",
        }


class Trainer:
    """The process in one pod."""

    def __init__(self, api: ApiModel, cluster: Cluster, pod: Raw, address: str) -> None:
        self._api, self._cluster, self.address = api, cluster, address
        self._pod = pod["metadata"]
        self.node: str = pod["spec"]["nodeName"]
        self._seen: str = self._pod["annotations"][ANNOTATION_CONFIG]
        config = self._config()
        self.name, self.namespace = self._pod["name"], self._pod["namespace"]
        self.pod_uid = self._pod["uid"]
        self._owner = self._pod["ownerReferences"][0]["uid"]
        index = self._pod["labels"].get("batch.kubernetes.io/job-completion-index")
        self._worker = int(index or 0)
        self.job, self.uid, self.attempt = config["job"], config["uid"], config["attempt"]
        self.ended = False
        self._state, self._seq = "Starting", 1
        self._epoch, self._start_epoch, self._start = 0, 0, 0
        self._told, self._changed = asyncio.Event(), asyncio.Event()
        self._sigterm = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._done: Callable[[Ended], None] = lambda _end: None
        api.listeners.append(self._heard)

    def start(self, done: Callable[[Ended], None]) -> None:
        """Begin; `done` is called once it has ended."""
        self._done = done
        self._cluster.training.setdefault(self.uid, {})[self.name] = self._owner
        self._task = asyncio.get_running_loop().create_task(self._train())

    def terminate(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds."""
        if not self._sigterm.is_set():
            self._sigterm.set()
            asyncio.get_running_loop().call_later(grace, self.kill, Ended(137))

    def kill(self, end: Ended) -> None:
        """It is gone at once."""
        if not self.ended and self._task:
            self._task.cancel()
            self._end(end)

    async def progress(self, seq: int, hold: float) -> Progress:
        """GET /progress?seq=…&wait=…"""
        if self._worker:
            raise OSError("connection refused")
        if self.node in self._cluster.lost:
            await asyncio.sleep(hold)
            raise TimeoutError
        if self._seq <= seq and not self.ended:
            self._told.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), hold)
        if self.ended:
            raise OSError("connection refused")
        if self.node in self._cluster.lost:
            raise TimeoutError
        return self._report()

    # The process.

    def _config(self) -> Raw:
        known = self._api.find("pods", self._pod["namespace"], self._pod["name"])
        if known and self.node not in self._cluster.lost:
            self._seen = known["metadata"]["annotations"][ANNOTATION_CONFIG]
        parsed: Raw = json.loads(self._seen)
        return parsed

    def _heard(self, change: Any) -> None:
        if change.plural == "pods" and change.raw["metadata"]["uid"] == self._pod["uid"]:
            before = (change.before or {}).get("metadata", {}).get("annotations")
            if before != change.raw["metadata"].get("annotations"):
                self._tell()

    def _tell(self) -> None:
        self._seq += 1
        self._told.set()

    async def _follow(self) -> None:
        """Another worker than the first: it ends well with it, and else by SIGTERM."""
        while self._cluster.ends.get(self._owner) != 0:
            run = self._cluster.runs.get(self.uid)
            end, _ = self._mishap(run, run.epoch) if run else (None, 0.0)
            if end is not None:
                self._end(end)
                return
            if await self._interrupted(0.3):
                return
        self._end(self._words(ExitCode.SUCCESS))

    async def _train(self) -> None:
        if self._worker:
            await self._follow()
            return
        run = self._cluster.runs.setdefault(self.uid, Run())
        run.starts += 1
        self._start = run.starts
        if await self._interrupted(self._cluster.pace(START_SECONDS)):
            return
        self._epoch = self._start_epoch = run.epoch
        self._state = "Training"
        self._tell()
        while True:
            if self._start < run.starts:
                self._end(self._words(ExitCode.SUPERSEDED))
                return
            end, lasts = self._mishap(run, self._epoch)
            if end is not None:
                if not await self._interrupted(lasts):
                    self._end(end)
                return
            config = self._config()
            if self._epoch >= config["training"]["epochs"] or (config["stop"] and self._epoch):
                self._state = "Finished"
                self._tell()
                if not await self._interrupted(0.5):
                    self._end(self._words(ExitCode.SUCCESS))
                return
            if await self._interrupted(self._cluster.pace(EPOCH_SECONDS)):
                return
            self._epoch += 1
            run.epoch = max(run.epoch, self._epoch)
            self._tell()

    async def _interrupted(self, seconds: float) -> bool:
        """Work for so long; True where SIGTERM has ended it."""
        if not seconds:
            return False
        try:
            await asyncio.wait_for(self._sigterm.wait(), seconds)
        except TimeoutError:
            return False
        if self.job in self._cluster.deaf:
            await asyncio.get_running_loop().create_future()  # until SIGKILL
        # Its last report, also where it has not loaded its checkpoint yet.
        self._state = "Finished"
        self._tell()
        await asyncio.sleep(self._cluster.pace(0.5))
        self._end(self._words(ExitCode.INTERRUPTED))
        return True

    def _mishap(self, run: Run, epoch: int) -> tuple[Ended | None, float]:
        """How it ends here, if it does, and after how many seconds without a step."""
        for number, mishap in enumerate(self._cluster.mishaps.get(self.job, ())):
            if mishap.worker != self._worker:
                continue
            if epoch == mishap.epoch and run.met.count(number) < mishap.times:
                run.met.append(number)
                lasts: float = 0.0
                if mishap.stalls:
                    lasts = duration_seconds(self._config()["training"]["stallTimeout"])
                if mishap.end.message or mishap.end.pod_reason or mishap.end.reason:
                    return mishap.end, lasts
                return self._words(mishap.end.code, mishap.words), lasts
        return None, 0.0

    def _end(self, end: Ended) -> None:
        if self.ended:
            return
        self.ended = True
        if end.unresponsive:
            self._told_by_kubelet(
                "Unhealthy", "Liveness probe failed: Get: context deadline exceeded"
            )
            self._told_by_kubelet("Killing", "Stopping container trainer")
        if not self._worker:
            self._cluster.ends[self._owner] = end.code
        self._api.listeners.remove(self._heard)
        del self._cluster.training[self.uid][self.name]
        self._told.set()
        self._done(end)

    def _told_by_kubelet(self, reason: str, message: str) -> None:
        about = {"kind": "Pod", "name": self.name, "uid": self.pod_uid}
        meta = {"name": f"{self.name}.{reason.lower()}"}
        event = {"metadata": meta, "involvedObject": about, "reason": reason, "message": message}
        self._api.create("events", self.namespace, event, who="kubelet")

    def _words(self, code: int, words: str = "") -> Ended:
        config = self._config()
        metrics = self._metrics()
        told = TerminationMessage(
            exit_code=code,
            reason="Scripted",
            message=words or "as the script says",
            epoch=self._epoch,
            epochs=config["training"]["epochs"],
            start_epoch=self._start_epoch,
            generation=config["generation"],
            last=metrics,
            best=metrics,
            checkpoint=self._checkpoint(),
        )
        return Ended(code, told.model_dump_json(by_alias=True, exclude_none=True))

    def _metrics(self) -> EpochMetrics | None:
        if not self._epoch:
            return None
        return EpochMetrics(epoch=self._epoch, val_iou=round(1 - 1 / (1 + self._epoch), 3))

    def _checkpoint(self) -> CheckpointPointer | None:
        return CheckpointPointer(epoch=self._epoch) if self._epoch else None

    def _record(self) -> EpochRecord | None:
        metrics = self._metrics()
        if metrics is None:
            return None
        iou = metrics.val_iou or 0.0
        part = Part(loss=0.1, dice=iou, iou=iou, samples=1, class_dice=[], class_iou=[])
        return EpochRecord(
            epoch=self._epoch,
            step=self._epoch,
            train=part,
            validation=part,
            learning_rate=0.1,
            seconds=EPOCH_SECONDS,
            samples_per_second=1.0,
            time=self._api.now(),
            attempt=self.attempt,
            start=self._start,
        )

    def _report(self) -> Progress:
        config = self._config()
        record = self._record()
        return Progress.model_validate(
            {
                "seq": self._seq,
                "job": self.job,
                "uid": self.uid,
                "attempt": self.attempt,
                "start": self._start,
                "state": self._state,
                "epoch": self._epoch,
                "epochs": config["training"]["epochs"],
                "step": 0,
                "steps_per_epoch": 1,
                "start_epoch": self._start_epoch,
                "generation": config["generation"],
                "batch_size": 8,
                "accumulate": 1,
                "last": record,
                "best": record,
                "checkpoint": self._checkpoint(),
                "updated": self._api.now(),
            }
        )
