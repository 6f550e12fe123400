"""The embedded cluster's own life: up, down, crashes, interruptions, refusals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kubeseg_local import build
from kubeseg_local.cluster import Cluster, ClusterError
from kubeseg_local.processes import PROC, supervisors
from tests.support.cluster import TestCluster, free_slot, log_of, pod, wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A cluster that isn't up, apart from the shared one."""
    with free_slot() as slot:
        cluster = Cluster(slot.directory, slot.port_base, 1)
        yield cluster
        cluster.down()


def processes_of(cluster: Cluster, *words: str) -> list[int]:
    """pids of processes whose command line has the cluster's folder and all `words`."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if all(each in command for each in (str(cluster.directory), *words)):
                found.append(int(entry.name))
    return found


def kill(cluster: Cluster, *words: str) -> None:
    for pid in processes_of(cluster, *words):
        os.kill(pid, signal.SIGKILL)


def wait_healthy(cluster: Cluster) -> None:
    wait_for("healthy", lambda: cluster.status().healthy)


def command(cluster: Cluster, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "kubeseg_local.cli", *arguments, "--dir", str(cluster.directory)]


def test_up_twice_then_crashes_then_down(own: Cluster) -> None:
    steps: list[str] = []
    assert own.up(steps.append)
    assert "waiting for the API server" in steps
    assert own.status().healthy
    assert not own.up(), "it runs already"
    kubectl = TestCluster(own).kubectl
    assert '"nvidia.com/gpu":"1"' in kubectl("get", "node", "-o", "jsonpath={..allocatable}")
    with pytest.raises(ClusterError, match="with number of GPUs 1, not 3"):
        Cluster(own.directory, gpus=3).up()

    # A crash is reported, and the component comes back.
    kill(own, "/kubelet")
    wait_for("the report", lambda: (state := own.status().state) and state.crashes)
    wait_healthy(own)
    state = own.status().state
    assert state is not None
    assert [each.component for each in state.crashes] == ["kubelet"]
    assert state.crashes[0].exit == "signal 9 (SIGKILL)"
    assert state.crashes[0].last_lines
    assert state.components["kubelet"].restarts == 1
    done = subprocess.run(command(own, "status"), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "kubelet ended with signal 9 (SIGKILL)" in done.stdout

    # Containers end with their runtime, and the kubelet starts them again with the next one.
    made = pod("lasts", "echo started; exec sleep 1000")
    made["spec"]["restartPolicy"] = "Always"
    kubectl("apply", "-f", "-", stdin=json.dumps(made))
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}"
    wait_for("started", lambda: "started" in log_of(kubectl, "lasts"))
    kill(own, "kubeseg_local.runtime")
    wait_for("restarted", lambda: kubectl("get", "pod", "lasts", "-o", restarts) == "1")
    kubectl("wait", "pod/lasts", "--for=condition=Ready", "--timeout=30s")

    assert own.down()
    assert not own.directory.exists()
    assert not processes_of(own)
    assert str(own.directory) not in Path("/proc/self/mounts").read_text()
    assert not own.down(), "there is nothing left to remove"
    assert own.status().phase == "Absent"


def test_an_interrupted_up_goes_on_and_a_killed_supervisor_is_replaced(own: Cluster) -> None:
    up = command(own, "up", "--port-base", str(own._port_base))
    with subprocess.Popen(up, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_for("its supervisor", partial(supervisors, own.directory))
        process.kill()
    own = Cluster(own.directory)
    assert own.up()
    assert own.status().healthy

    kill(own, "kubeseg_local.supervisor")
    wait_for("everything ended", lambda: not processes_of(own))
    status = own.status()
    assert status.phase == "Stopped"
    assert "kubeseg-local up" in status.problems[0]
    done = subprocess.run(command(own, "status"), capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_up_killed_before_there_is_a_supervisor(own: Cluster) -> None:
    up = command(own, "up", "--port-base", str(own._port_base))
    with subprocess.Popen(up, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_for("its files", (own.directory / "pki" / "ca.crt").exists)
        process.kill()
    assert own.down()
    assert not own.directory.exists()
    assert not processes_of(own)


def test_a_component_that_keeps_crashing_ends_the_waiting(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = (build.ensure() / "kubectl").resolve()
    broken = tmp_path / "kubernetes"
    broken.write_text(
        f"""#!/bin/sh
name=$(basename "$0")
if [ "$name" = kube-scheduler ]; then echo "the scheduler is out of order" >&2; exit 3; fi
if [ "$name" = kubernetes ]; then exec {real} "$@"; fi
exec {real} "$name" "$@"
"""
    )
    broken.chmod(0o755)
    monkeypatch.setenv(build.ENV_BINARY, str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    started = time.monotonic()
    with pytest.raises(ClusterError) as refused:
        own.up()
    assert time.monotonic() - started < 60, "not hung upon"
    assert "kube-scheduler crashed 5 times within 60 s" in str(refused.value)
    assert "kube-scheduler ended with exit code 3" in str(refused.value)
    assert "the scheduler is out of order" in str(refused.value)
    assert own.status().phase == "Failed"
    done = subprocess.run(command(own, "status"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the scheduler is out of order" in done.stdout


def test_a_busy_port_is_named_with_its_process(own: Cluster) -> None:
    port = (own._port_base or 0) + 3
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        with pytest.raises(ClusterError) as refused:
            own.up()
    text = str(refused.value)
    assert f"port {port}, for kubelet, is taken by process {os.getpid()} (" in text
    assert "--port-base" in text


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for action in (Cluster(tmp_path).up, Cluster(tmp_path).down):
        with pytest.raises(ClusterError, match="files in it that are no cluster's"):
            action()
    assert (tmp_path / "thesis.tex").exists()


def test_env_is_for_kubectl_and_helm(cluster: TestCluster) -> None:
    done = subprocess.run(
        command(cluster.cluster, "env"), capture_output=True, text=True, check=True
    )
    script = done.stdout + "kubectl get --raw /readyz && helm list"
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout.startswith("ok")
