"""The embedded cluster that tests share, and what they do with it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kubeseg_local.cluster import Cluster
from kubeseg_local.layout import Ports, Settings
from kubeseg_local.processes import port_is_free

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
# Beside a demo's, whose 400 ports begin at 26443; below the ports of outgoing connections.
FIRST_PORT = 28443
PORTS_APART = 500
SLOTS = 8
GPUS = 4
POLL_S = 0.1
TOOLS = "kubeseg-tools:1"


@dataclass(frozen=True)
class Slot:
    """A folder and a block of ports that no other test session uses."""

    directory: Path
    port_base: int


@contextlib.contextmanager
def free_slot() -> Iterator[Slot]:
    """A slot of our own, empty: sessions at the same time don't disturb each other.

    What a killed session of this checkout has left in it is removed.
    """
    folder = ROOT / ".kubeseg"
    folder.mkdir(exist_ok=True)
    for number in range(SLOTS):
        slot = Slot(folder / f"test-cluster-{number}", FIRST_PORT + PORTS_APART * number)
        with (folder / f"{slot.directory.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            Cluster(slot.directory).down()
            if not all(map(port_is_free, Ports(slot.port_base).named())):
                continue  # another checkout's, or another user's
            yield slot
            return
    raise RuntimeError(f"{SLOTS} test clusters are running on this machine: end some")


class KubectlError(AssertionError):
    """kubectl failed; the text is what it says."""


class NotReachedError(AssertionError):
    """A condition was not reached in time."""


def wait_for(what: str, condition: Callable[[], T | None], deadline: float = 60) -> T:
    """What `condition` returns, as soon as it is true; NotReachedError after `deadline` s."""
    until = time.monotonic() + deadline
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise NotReachedError(f"{what}: not within {deadline:g} s")
        time.sleep(POLL_S)


class TestCluster:
    """The cluster, with kubectl at hand."""

    __test__ = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster.kubeconfig

    @property
    def bin_dir(self) -> Path:
        """Folder of kubectl and helm."""
        return self.cluster.bin_dir

    @property
    def settings(self) -> Settings:
        """What the running cluster was started with."""
        settings = self.cluster.status().settings
        assert settings is not None
        return settings

    def write_kubeconfig(self, file: Path, namespace: str, account: str) -> None:
        """A kubeconfig with the rights of a service account, for six hours."""
        place = ("--namespace", namespace)
        token = self.kubectl(*place, "create", "token", account, "--duration=6h").strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
        config["users"][0]["user"] = {"token": token}
        file.write_text(json.dumps(config))

    def node_port(self, number: int) -> int:
        """A port that a Service of type NodePort may have: the one with this number."""
        first, last = self.settings.ports.node_ports
        assert first + number <= last
        return first + number

    def helm(self, *arguments: str) -> str:
        """Output of helm; KubectlError with its stderr on failure."""
        return self._run("helm", arguments, None)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of kubectl as administrator; KubectlError with its stderr on failure."""
        return self._run("kubectl", arguments, stdin)

    def _run(self, program: str, arguments: tuple[str, ...], stdin: str | None) -> str:
        done = subprocess.run(
            [str(self.bin_dir / program), *arguments],
            env=os.environ | self.cluster.env(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KubectlError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


class Namespace:
    """A fresh namespace of the shared cluster, with Pod Security `restricted` enforced."""

    def __init__(self, cluster: TestCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply the manifests; KubectlError when one is refused."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """The object, or {} where there is none."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, perhaps only those with these labels."""
        text = self.kubectl("get", kind, "-l", selector, "-o", "json")
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def wait(
        self, kind: str, name: str, condition: Callable[[dict[str, Any]], Any], deadline: float = 60
    ) -> dict[str, Any]:
        """The object, once `condition` of it is true."""

        def look() -> dict[str, Any] | None:
            found = self.get(kind, name)
            return found if found and condition(found) else None

        try:
            return wait_for(f"{kind} {name}", look, deadline)
        except NotReachedError as error:
            status = json.dumps(self.get(kind, name).get("status"))
            raise NotReachedError(f"{error}; its status: {status}; {self.events()}") from None

    def wait_phase(self, pod: str, *phases: str) -> dict[str, Any]:
        """The pod, once it has one of the phases."""
        return self.wait("pod", pod, lambda each: each["status"].get("phase") in phases)

    def wait_ready(self, pod: str) -> dict[str, Any]:
        """The pod, once it is Ready."""
        return self.wait("pod", pod, lambda each: condition(each, "Ready") == "True")

    def finished(self, pod: str) -> dict[str, Any]:
        """How the first container of the pod ended: exitCode, reason, message."""
        ended = self.wait_phase(pod, "Succeeded", "Failed")
        state: dict[str, Any] = ended["status"]["containerStatuses"][0]["state"]["terminated"]
        return state

    def events(self) -> str:
        """Reasons and messages of the namespace's events."""
        return self.kubectl("get", "events", "-o", "custom-columns=R:.reason,M:.message")


def log_of(kubectl: Callable[..., str], name: str) -> str:
    """The pod's log, or nothing while it has none."""
    try:
        return kubectl("logs", name)
    except KubectlError:
        return ""


def condition(thing: dict[str, Any], kind: str) -> str:
    """Status of the object's condition `kind`: "True", "False", "Unknown", or "" without it."""
    for each in thing.get("status", {}).get("conditions", []):
        if each["type"] == kind:
            return str(each["status"])
    return ""


def pod(name: str, script: str, **changes: Any) -> dict[str, Any]:
    """A pod that runs a shell script and passes Pod Security `restricted`.

    `changes` go into its one container, except `spec` and `metadata`, which go where they say.
    """
    spec = changes.pop("spec", {})
    metadata = changes.pop("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container(script, **changes)],
            **spec,
        },
    }


def container(script: str, **changes: Any) -> dict[str, Any]:
    """A container that runs a shell script and passes Pod Security `restricted`."""
    return {
        "name": "main",
        "image": TOOLS,
        "command": ["sh", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        **changes,
    }
