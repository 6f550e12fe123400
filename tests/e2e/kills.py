"""SIGKILL to whatever a training needs, at random, by a seed; and what must hold afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.installation import Installation
from tests.support.cluster import KubectlError, wait_for

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kubelet")
TARGETS = ("operator", "trainer", *COMPONENTS)
#: A component that crashes five times within this many seconds is left down by its supervisor.
WINDOW_S = 60.0
OFTEN = 3


def _arguments(process: Path) -> list[str]:
    return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")


def _processes(wanted: Callable[[Path], bool]) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted(process):
                yield int(process.name)


class Killer:
    """Kills one thing after another."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self._kubeseg, self._random = installation, random.Random(seed)
        self._cluster = installation.cluster.cluster
        self._struck: list[tuple[float, str]] = []
        #: What was killed, in order.
        self.told: list[str] = []
        #: How often the trainer of a TrainingJob with this UID was.
        self.trainers: Counter[str] = Counter()

    def strike(self, target: str = "") -> None:
        """Kill `target`, or one chosen at random, where it runs."""
        now = time.monotonic()
        lately = [name for at, name in self._struck if now - at < WINDOW_S]
        target = target or self._random.choice([t for t in TARGETS if lately.count(t) < OFTEN])
        killed = 0
        uid, pids = self._a_training() if target == "trainer" else ("", self._pids(target))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        if killed:
            self._struck.append((now, target))
            self.told.append(target)
            self.trainers.update([uid] if uid else [])

    def freeze(self) -> None:
        """Stop all processes of a training, which notice nothing of it."""
        _, pids = self._a_training()
        assert pids, "no training runs"
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    def pause(self) -> float:
        """Seconds until the next one."""
        return self._random.uniform(2, 8)

    def _pids(self, target: str) -> list[int]:
        if target == "operator":
            return self._one_of(list(_processes(self._is_operator)))
        return list(_processes(lambda process: self._is_component(process, target)))

    def _is_component(self, process: Path, name: str) -> bool:
        arguments = _arguments(process)
        program = str(self._cluster.bin_dir / name)
        return program in arguments and any(str(self._cluster.directory) in a for a in arguments)

    def _is_operator(self, process: Path) -> bool:
        if "kubeseg_operator.main" not in _arguments(process):
            return False
        return f"POD_NAMESPACE={self._kubeseg.name}" in (process / "environ").read_text().split(
            "\0"
        )

    def _a_training(self) -> tuple[str, list[int]]:
        """UID and all processes of one training of this namespace."""
        of: dict[str, list[int]] = {}

        def look(process: Path) -> bool:
            if not any("kubeseg_trainer" in argument for argument in _arguments(process)):
                return False
            config = json.loads((process / "root" / "etc" / "kubeseg" / "config.json").read_text())
            if config["namespace"] == self._kubeseg.name:
                of.setdefault(config["uid"], []).append(int(process.name))
            return True

        list(_processes(look))
        uid = self._random.choice(sorted(of)) if of else ""
        return uid, of.get(uid, [])

    def _one_of(self, pids: list[int]) -> list[int]:
        return [self._random.choice(sorted(pids))] if pids else []


def phases(kubeseg: Installation) -> dict[str, str]:
    """Each TrainingJob's phase; nothing while the API server is away."""
    try:
        items = kubeseg.items("tj")
    except KubectlError:
        return {}
    return {each["metadata"]["name"]: each.get("status", {}).get("phase", "") for each in items}


def all_ended(kubeseg: Installation, names: list[str]) -> bool:
    """Whether each of these TrainingJobs has succeeded or failed."""
    now = phases(kubeseg)
    return all(now.get(name) in {"Succeeded", "Failed"} for name in names)


def wait_well(kubeseg: Installation) -> None:
    """Wait until every component and the operator are well again."""
    wait_for("the cluster is well", lambda: kubeseg.cluster.cluster.status().healthy, 90)

    def ready() -> bool:
        try:
            deployment = kubeseg.get("deployment", "kubeseg-operator")
        except KubectlError:
            return False
        return bool(deployment["status"].get("readyReplicas") == deployment["spec"]["replicas"])

    wait_for("the operator is well", ready, 120)


def check_undamaged(kubeseg: Installation, name: str, epochs: int) -> dict[str, Any]:
    """The status of a training that has to have come through it all."""
    status = kubeseg.status(name)
    assert status["phase"] == "Succeeded", (name, status)
    history = kubeseg.history(name)
    assert [record["epoch"] for record in history] == list(range(1, epochs + 1)), name
    for record in history:
        for part in ("train", "validation"):
            values = record[part]
            assert values["samples"] > 0, (name, record)
            assert None not in (values["loss"], values["dice"], values["iou"]), (name, record)
    assert status["progress"]["epoch"] == epochs
    assert status["metrics"]["last"]["epoch"] == epochs
    assert (kubeseg.workspace() / status["run"]["path"] / "model" / "config.json").is_file()
    numbers = [attempt["number"] for attempt in status["attempts"]]
    assert numbers == sorted(set(numbers)), "no number is used twice"
    assert [a for a in status["attempts"] if not a.get("endTime")] == []
    return status
