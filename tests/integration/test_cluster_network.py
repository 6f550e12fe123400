"""Addresses, names, Services and probes on the embedded cluster."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from kubeseg_local.layout import LOOPBACK
from kubeseg_local.processes import PROC, listeners, socket_inodes, supervisors
from tests.support.cluster import Namespace, TestCluster, condition, pod, wait_for

pytestmark = pytest.mark.cluster
SERVE = 'echo "I am $(hostname)" > /tmp/who; exec python3 -m http.server -b $POD_IP -d /tmp 8000'
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
GET = "python3 -c 'import sys,urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())'"


def server(name: str, **metadata: Any) -> dict[str, Any]:
    """A pod that answers HTTP on its own address, port 8000 (named web), once it is ready."""
    return pod(
        name,
        SERVE,
        metadata={"labels": {"app": "web"}, **metadata},
        env=[POD_IP],
        ports=[{"name": "web", "containerPort": 8000}],
        readinessProbe={"httpGet": {"path": "/who", "port": "web"}, "periodSeconds": 1},
    )


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 8080, "targetPort": "web"}],
            **spec,
        },
    }


def test_pods_reach_each_other_by_address_and_by_service(namespace: Namespace) -> None:
    namespace.apply(service("web"), server("one"), server("two"))
    first, second = namespace.wait_ready("one"), namespace.wait_ready("two")
    assert first["status"]["podIP"] != second["status"]["podIP"]
    assert first["status"]["podIP"].startswith("127.")
    script = f"until {GET} http://web:8080/who && {GET} http://web.{namespace.name}.svc:8080/who"
    address = first["status"]["podIP"]
    namespace.apply(pod("asks", f"{script}; do sleep 0.2; done; {GET} http://{address}:8000/who"))
    assert namespace.finished("asks")["exitCode"] == 0
    answers = set(namespace.kubectl("logs", "asks").splitlines()) - {""}
    assert "I am one" in answers
    assert answers <= {"I am one", "I am two"}


def test_a_node_port_follows_the_ready_pods(namespace: Namespace) -> None:
    namespace.apply(service("web", type="NodePort"), server("one"))
    port = namespace.get("service", "web")["spec"]["ports"][0]["nodePort"]
    first, last = namespace.cluster.cluster.status().settings.ports.node_ports  # type: ignore[union-attr]
    assert first <= port <= last
    url = f"http://{LOOPBACK}:{port}/who"

    def answer() -> str:
        try:
            return httpx.get(url, timeout=5).text.strip()
        except httpx.TransportError:
            return ""

    assert wait_for("an answer", answer) == "I am one"
    namespace.kubectl("delete", "pod", "one")
    namespace.apply(server("two"))
    assert wait_for("the other pod's answer", answer) == "I am two"


def test_headless_names_come_before_readiness_and_reach_running_pods(namespace: Namespace) -> None:
    waits = pod("asks", "until getent hosts late.peers; do sleep 0.1; done")
    namespace.apply(waits)
    namespace.wait_phase("asks", "Running")
    late = pod("late", "sleep 1000", metadata={"labels": {"app": "web"}})
    late["spec"] |= {"hostname": "late", "subdomain": "peers"}
    # Never ready: what counts is publishNotReadyAddresses.
    late["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["false"]}}
    namespace.apply(service("peers", clusterIP="None", publishNotReadyAddresses=True), late)
    assert namespace.finished("asks")["exitCode"] == 0
    address = namespace.get("pod", "late")["status"]["podIP"]
    assert namespace.kubectl("logs", "asks").split()[0] == address


def test_readiness_by_exec_and_its_loss(namespace: Namespace) -> None:
    made = pod(
        "blinks",
        "until [ -e /tmp/ok ]; do sleep 0.1; done; sleep 4; rm /tmp/ok; ls /tmp; sleep 1000",
        # Probes and hooks run in the container's own files, or they couldn't make these.
        readinessProbe={
            "exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1,
        },
        startupProbe={"exec": {"command": ["touch", "/tmp/ok"]}, "periodSeconds": 1},
        lifecycle={"postStart": {"exec": {"command": ["touch", "/tmp/started"]}}},
    )  # fmt: skip
    namespace.apply(made)
    namespace.wait_ready("blinks")
    namespace.wait("pod", "blinks", lambda each: condition(each, "Ready") == "False")
    assert "started" in namespace.kubectl("logs", "blinks").split()


def test_a_failing_liveness_probe_restarts_the_container(namespace: Namespace) -> None:
    made = pod(
        "stuck",
        "trap '' TERM; sleep 1000 & wait; sleep 1000",
        livenessProbe={"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1},
    )
    made["spec"] |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 1}
    namespace.apply(made)

    def restarted(each: dict[str, Any]) -> bool:
        states = each["status"].get("containerStatuses", [])
        return bool(states and states[0]["restartCount"])

    status = namespace.wait("pod", "stuck", restarted)["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 137, "killed after its grace period"


def test_a_probe_that_takes_too_long_is_ended(namespace: Namespace) -> None:
    probe = {"exec": {"command": ["sleep", "50"]}, "timeoutSeconds": 1, "periodSeconds": 1}
    namespace.apply(pod("slow", "sleep 1000", readinessProbe=probe))
    wait_for("the probe's event", lambda: "timed out after 1s" in namespace.events())


def test_the_api_server_is_reached_with_the_pods_own_token(namespace: Namespace) -> None:
    script = (
        'cd /var/run/secrets/kubernetes.io/serviceaccount; python3 -c "'
        "import os, ssl, urllib.request as r; from pathlib import Path as P;"
        'q = r.Request(f\'https://{os.environ[\\"KUBERNETES_SERVICE_HOST\\"]}:'
        '{os.environ[\\"KUBERNETES_SERVICE_PORT\\"]}/version\','
        "headers={'Authorization': 'Bearer ' + P('token').read_text()});"
        "print(r.urlopen(q, context=ssl.create_default_context(cafile='ca.crt')).read().decode())\""
    )
    namespace.apply(pod("asks", script))
    assert namespace.finished("asks")["exitCode"] == 0, namespace.kubectl("logs", "asks")
    assert "v1.36.3" in namespace.kubectl("logs", "asks")


def test_nothing_listens_beyond_loopback(namespace: Namespace, cluster: TestCluster) -> None:
    namespace.apply(service("web", type="NodePort"), server("one"))
    namespace.wait_ready("one")
    roots = supervisors(cluster.cluster.directory)
    inodes = set[str]()
    for pid in descendants(roots):
        inodes |= socket_inodes(pid)
    ours = [each for each in listeners() if each.inode in inodes]
    ports = {each.port for each in ours}
    settings = cluster.cluster.status().settings
    assert settings is not None
    assert set(settings.ports.named()) <= ports
    assert 8000 in ports, "the pod's"
    assert 8080 in ports, "the Service's"
    beyond = [each for each in ours if not re.fullmatch(r"127\..*|::1", each.address)]
    assert not beyond


def descendants(roots: list[int]) -> set[int]:
    """The processes `roots` and all below them."""
    parents = dict[int, int]()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
