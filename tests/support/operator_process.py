"""The operator as a process beside the cluster, and TrainingJobs whose trainer follows a script."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.support.audit_log import audit_log
from tests.support.cluster import ROOT, Namespace, TestCluster, wait_for
from tests.support.operator_rights import ACCOUNT, LEASE, operators_kubeconfig

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"
IMAGE = "scripted-trainer"
AGENT = "kubeseg-operator"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "kubeseg-workspace"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}


def add_scripted_trainer(cluster: TestCluster) -> None:
    """Make the image known to the cluster's runtime."""
    file = cluster.cluster.directory / "images.json"
    known = json.loads(file.read_text())
    script = ROOT / "tests" / "support" / "scripted_trainer.py"
    known["images"][IMAGE] = {"entrypoint": [sys.executable, str(script)], "uid": 10001}
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(known))
    fresh.replace(file)


@contextlib.contextmanager
def operated(cluster: TestCluster, folder: Path, *values: str) -> Iterator[Place]:
    """A namespace under Pod Security `restricted`, with a workspace and a running operator.

    As in a pod: with the roles of the chart with these `values` (arguments of helm), a Lease, and
    a name that outlives a restart.
    """
    add_scripted_trainer(cluster)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    place = Place(cluster, f"operator-{secrets.token_hex(3)}")
    cluster.kubectl("create", "namespace", place.name)
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", place.name, enforce)
    place.apply(CLAIM)
    _let_it_list_nodes(place)
    log = folder / "operator.log"
    place.operator = OperatorProcess(
        place.name,
        log,
        operators_kubeconfig(place, folder, ACCOUNT, *values),
        KUBESEG_LEASE=f"{place.name}/{LEASE}",
        POD_NAME="operator-pod",
    )
    place.operator.start()
    yield place
    place.operator.stop()
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", f"nodes-{place.name}")
    cluster.kubectl("delete", "namespace", place.name, "--wait=false")
    text = log.read_text()
    assert "Traceback" not in text, text


def _let_it_list_nodes(place: Place) -> None:
    """As an operator of all namespaces may: a Role of one namespace can't say so."""
    role, account = f"nodes-{place.name}", f"--serviceaccount={place.name}:{ACCOUNT}"
    place.kubectl("create", "clusterrole", role, "--verb=list", "--resource=nodes")
    place.kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", account)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class OperatorProcess:
    """`kubeseg-operator` for one namespace, with the rights of `kubeconfig`.

    More environment may be given.
    """

    def __init__(self, namespace: str, log: Path, kubeconfig: Path, **environment: str) -> None:
        self.log = log
        self.probes, self.metrics = free_port(), free_port()
        self._environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "KUBESEG_NAMESPACES": namespace,
            "KUBESEG_TRAINER_IMAGE": f"{IMAGE}:1",
            "KUBESEG_BACKOFF_SECONDS": "1",
            "KUBESEG_LOST_NODE_SECONDS": "5",
            "KUBESEG_PROBES_PORT": str(self.probes),
            "KUBESEG_METRICS_PORT": str(self.metrics),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.launch()
        self.until_ready()

    def launch(self) -> None:
        """Start it."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kubeseg_operator.main"],
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def until_ready(self) -> None:
        """Wait until it works, or stands by."""
        wait_for("the operator is ready", lambda: self.probe("readyz") == 200, 60)

    def probe(self, name: str) -> int:
        """HTTP status of a probe; 0 where nobody listens."""
        return self.says(name)[0]

    def says(self, name: str) -> tuple[int, str]:
        """HTTP status and text of a probe; 0 where nobody listens."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.probes}/{name}", timeout=5)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def series(self, name: str) -> dict[str, float]:
        """All series of a metric: labels → value."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5).text
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._process
        self._process.send_signal(number)

    def ended(self, deadline: float = 30) -> int:
        """The exit code, once it has ended."""
        assert self._process
        return self._process.wait(deadline)

    def end(self) -> None:
        """Kill it where it still runs."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal that ends it; returns the exit code."""
        self.send(number)
        return self.ended()


class Place(Namespace):
    """A namespace with a workspace and an operator of its own."""

    operator: OperatorProcess

    def job(self, name: str, script: dict[str, Any], **spec: Any) -> None:
        """Apply a TrainingJob whose trainer does as `script` says."""
        environment = [{"name": "SCRIPT", "value": json.dumps(script)}, *spec.pop("env", [])]
        wanted = {
            "dataset": {"name": "none"},
            "training": {"epochs": script.get("epochs", 1) or 1},
            "resources": {"cpu": "10m", "memory": "64Mi", "sharedMemory": "16Mi"},
            "env": environment,
        }
        manifest = {
            "apiVersion": "kubeseg.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name},
            "spec": wanted | spec,
        }
        self.apply(manifest)

    def edit(self, name: str, **spec: Any) -> None:
        """Change parts of a TrainingJob's spec."""
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", "tj", name, "--type", "merge", "-p", patch)

    def until(
        self, name: str, look: Callable[[dict[str, Any]], Any], deadline: float = 60
    ) -> dict[str, Any]:
        """The status, once `look` finds it so."""
        found = self.wait("tj", name, lambda each: look(each.get("status", {})), deadline)
        status: dict[str, Any] = found["status"]
        return status

    def phase(self, name: str, phase: str, deadline: float = 60) -> dict[str, Any]:
        """The status, once the job is in this phase."""
        return self.until(name, lambda status: status.get("phase") == phase, deadline)

    def story(self, name: str) -> list[str]:
        """Reasons of the job's events, in order."""
        text = self.kubectl(
            "get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "json"
        )
        events = [
            e for e in json.loads(text)["items"] if e["involvedObject"]["kind"] == "TrainingJob"
        ]
        return [
            e["reason"] for e in sorted(events, key=lambda e: int(e["metadata"]["resourceVersion"]))
        ]

    def calls(self, name: str = "", agent: str = AGENT) -> list[dict[str, Any]]:
        """The API server's log of writes in this namespace by `agent`, to objects named so.

        Renewals of a Lease aside: they go on whatever happens.
        """
        found = []
        for entry in audit_log(self.cluster, self.name):
            target = entry.get("objectRef") or {}
            if (
                entry["stage"] == "ResponseComplete"
                and entry["verb"] not in {"get", "list", "watch"}
                and target.get("namespace") == self.name
                and target.get("resource") != "leases"
                and target.get("name", "").startswith(name)
                and entry.get("userAgent", "").startswith(agent)
            ):
                found.append(entry)
        return found

    def written(self, name: str) -> list[str]:
        """The operator's writes on a job and its children, events aside."""
        verbs = [
            " ".join(
                filter(
                    None, (e["verb"], e["objectRef"]["resource"], e["objectRef"].get("subresource"))
                )
            )
            for e in self.calls(name)
        ]
        return [verb for verb in verbs if "events" not in verb]
