"""The chart on the cluster: installed by Helm, waited for, and a user who may use it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from kubeseg_local.cluster import Cluster
from kubeseg_local.demo.failure import DemoError
from kubeseg_local.demo.plan import USER
from kubeseg_local.demo.readiness import readiness
from kubeseg_local.demo.screen import Step
from kubeseg_local.layout import LOOPBACK, REPOSITORY

NAMESPACE = "kubeseg"
RELEASE = "kubeseg"
CHART = REPOSITORY / "charts" / "kubeseg"
VALUES = REPOSITORY / "deploy" / "samples" / "demo-values.yaml"
NODE_PORT_OFFSET = 137
READY_DEADLINE_S = 120.0
# Helm refuses to go on where it was killed in the middle.
PENDING = "owner=helm,name={},status in (pending-install,pending-upgrade,pending-rollback)"

OBJECTS = """
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels: {{pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {user}, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {user}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {release}-user}}
subjects: [{{kind: ServiceAccount, name: {user}, namespace: {namespace}}}]
"""


class Kubectl:
    """kubectl and helm of a cluster, in the demo's namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self.environment = os.environ | cluster.env()
        self.bin_dir = cluster.bin_dir

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of `kubectl -n kubeseg …`. Raises DemoError with what it says."""
        return self._call("kubectl", "-n", NAMESPACE, *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Output of `helm -n kubeseg …`. Raises DemoError with what it says."""
        return self._call("helm", "-n", NAMESPACE, *arguments)

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`: an object, or a list's items; None where there is none."""
        text = self.run("get", *arguments, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def _call(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [str(self.bin_dir / program), *arguments],
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemoError(f"{program} {' '.join(arguments[2:5])}: {done.stderr.strip()[-1500:]}")
        return done.stdout


def _free_port(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _facade_port(kubectl: Kubectl, cluster: Cluster) -> int:
    """The NodePort that the facade has, or will get: the first that nobody listens on."""
    services = kubectl.get("services", "-l", f"app.kubernetes.io/instance={RELEASE}")
    for service in services["items"] if services else []:
        for port in service["spec"]["ports"]:
            if service["spec"]["type"] == "NodePort" and port.get("nodePort"):
                return int(port["nodePort"])
    settings = cluster.status().settings
    assert settings is not None
    first, last = settings.ports.node_ports
    for candidate in range(settings.port_base + NODE_PORT_OFFSET, last + 1):
        if _free_port(candidate):
            return candidate
    raise DemoError(
        f"no free port from {first} to {last} on {LOOPBACK} for the facade: end what has them"
    )


def _sources() -> str:
    """Changes whenever what the pods run does, so that they are started anew."""
    digest = hashlib.sha256()
    for folder in ("api", "operator"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def install(kubectl: Kubectl, cluster: Cluster, step: Step) -> str:
    """Install or upgrade the chart and wait until it serves; the facade's address."""
    step.say("namespace and user")
    objects = OBJECTS.format(namespace=NAMESPACE, user=USER, release=RELEASE)
    kubectl.run("apply", "-f", "-", stdin=objects)
    kubectl.run("delete", "secrets", "-l", PENDING.format(RELEASE), "--ignore-not-found")
    port = _facade_port(kubectl, cluster)
    step.say("helm upgrade --install")
    pods = r"podAnnotations.kubeseg\.dev/sources"
    kubectl.helm(
        *("upgrade", "--install", RELEASE, str(CHART), "-f", str(VALUES)),
        *("--set", f"api.service.nodePort={port}"),
        *("--set-string", f"api.{pods}={_sources()},operator.{pods}={_sources()}"),
    )
    _wait_ready(kubectl, step)
    return f"http://{LOOPBACK}:{port}"


def _wait_ready(kubectl: Kubectl, step: Step) -> None:
    until = time.monotonic() + READY_DEADLINE_S
    label = f"app.kubernetes.io/instance={RELEASE}"
    while True:
        found = kubectl.get("deployments,pods,persistentvolumeclaims", "-l", label)
        kinds: dict[str, list[dict[str, Any]]] = {}
        for each in found["items"] if found else []:
            kinds.setdefault(each["kind"], []).append(each)
        now = readiness(
            kinds.get("Deployment", []),
            kinds.get("Pod", []),
            kinds.get("PersistentVolumeClaim", []),
        )
        if now.ready:
            return
        text = " · ".join(f"{name} {state}" for name, state in now.states.items())
        why = "; ".join(now.waiting_for)
        step.say(f"{text}   {why}")
        late = time.monotonic() > until
        if now.fatal or late:
            reason = now.fatal or f"not Ready after {READY_DEADLINE_S:.0f} s: {text}; {why}"
            raise DemoError(f"{reason}\n{_last_words(kubectl, now.crashed_pod)}".rstrip())
        time.sleep(0.5)


def _last_words(kubectl: Kubectl, pod: str | None) -> str:
    if pod is None:
        return ""
    try:
        return kubectl.run("logs", pod, "--previous", "--tail=20")
    except DemoError as error:  # its log is gone: say that beside the reason proper
        return str(error)


def make_token(kubectl: Kubectl, file: Path) -> str:
    """A token of the demo's user for a day, also written to `file` for the user alone."""
    token = kubectl.run("create", "token", USER, "--duration=24h").strip()
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(token + "\n")
    return token
