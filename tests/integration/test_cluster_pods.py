"""What pods can do on the embedded cluster."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from kubeseg_local.layout import REPOSITORY
from tests.support.cluster import Namespace, container, log_of, pod, wait_for

pytestmark = pytest.mark.cluster
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "workspace"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}
WORKSPACE: dict[str, list[Any]] = {
    "spec_volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "workspace"}}],
    "mounts": [{"name": "w", "mountPath": "/workspace"}],
}


def with_volumes(name: str, script: str, volumes: list[Any], mounts: list[Any]) -> dict[str, Any]:
    made = pod(name, script, volumeMounts=mounts)
    made["spec"]["volumes"] = volumes
    return made


def test_a_job_runs_to_its_end(namespace: Namespace) -> None:
    template = pod("x", "echo worker $JOB_COMPLETION_INDEX of $(hostname)")["spec"]
    namespace.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "two"},
            "spec": {
                "completions": 2,
                "parallelism": 2,
                "completionMode": "Indexed",
                "template": {"spec": template},
            },
        }
    )
    job = namespace.wait("job", "two", lambda each: each["status"].get("succeeded") == 2)
    assert job["status"]["completedIndexes"] == "0,1"
    logs = namespace.kubectl("logs", "-l", "job-name=two")
    assert sorted(logs.splitlines()) == ["worker 0 of two-0", "worker 1 of two-1"]


def test_a_deployment_replaces_a_pod_that_is_deleted(namespace: Namespace) -> None:
    template = pod("x", "exec sleep 1000")["spec"] | {"restartPolicy": "Always"}
    namespace.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": template},
            },
        }
    )
    namespace.kubectl("wait", "deployment/web", "--for=condition=Available", "--timeout=60s")
    (first,) = namespace.items("pods", "app=web")
    namespace.kubectl("delete", "pod", first["metadata"]["name"], "--wait=false")

    def another() -> bool:
        now = namespace.items("pods", "app=web")
        return [each["metadata"]["name"] for each in now] not in ([first["metadata"]["name"]], [])

    wait_for("another pod", another)
    namespace.kubectl("wait", "deployment/web", "--for=condition=Available", "--timeout=60s")


def test_two_pods_share_a_read_write_many_volume(namespace: Namespace) -> None:
    volumes, mounts = WORKSPACE["spec_volumes"], WORKSPACE["mounts"]
    namespace.apply(
        CLAIM,
        with_volumes("reader", "until cat /workspace/word; do sleep 0.1; done", volumes, mounts),
        with_volumes("writer", "echo shared > /workspace/word", volumes, mounts),
    )
    assert namespace.finished("writer")["exitCode"] == 0
    assert namespace.finished("reader")["exitCode"] == 0
    assert "shared" in namespace.kubectl("logs", "reader")
    claim = namespace.get("pvc", "workspace")
    volume = namespace.get("pv", claim["spec"]["volumeName"])
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]

    namespace.kubectl("delete", "pod", "reader", "writer")
    namespace.kubectl("delete", "pvc", "workspace")
    wait_for("the volume deleted", lambda: not namespace.get("pv", volume["metadata"]["name"]))
    folders = namespace.cluster.cluster.layout.volumes.iterdir()
    assert not [each for each in folders if each.name.startswith(namespace.name)]


def test_config_map_secret_token_and_downward_api(namespace: Namespace) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": "somebody"}}
    annotation = {"fieldRef": {"fieldPath": "metadata.annotations['note']"}, "path": "note"}
    script = (
        "cat /config/word /secret/word /info/note; wc -c < /token/token; echo $POD_IP $WORD;"
        "until grep -q second /info/note; do sleep 0.1; done; cat /info/note"
    )
    made = pod(
        "reader",
        script,
        metadata={"annotations": {"note": "first"}},
        env=[
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
        ],
        volumeMounts=[
            {"name": each, "mountPath": f"/{each}"}
            for each in ("config", "secret", "info", "token")
        ],
    )
    made["spec"]["volumes"] = [
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "info", "downwardAPI": {"items": [annotation]}},
        {"name": "token", "projected": {"sources": [token]}},
    ]
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c"},
            "data": {"word": "a\n"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "stringData": {"word": "b\n"},
        },
        made,
    )
    running = namespace.wait_phase("reader", "Running")
    wait_for("the first lines", lambda: "first" in namespace.kubectl("logs", "reader"))
    namespace.kubectl("annotate", "pod", "reader", "note=second", "--overwrite")
    assert namespace.finished("reader")["exitCode"] == 0
    lines = namespace.kubectl("logs", "reader").split()
    assert lines[:2] == ["a", "b"]
    assert int(lines[2].removeprefix("first")) > 500, "length of the token"
    assert lines[3:] == [running["status"]["podIP"], "b", "second"]


def test_empty_dirs_outlive_a_restart_of_their_container(namespace: Namespace) -> None:
    made = with_volumes(
        "counter",
        "echo run >> /disk/runs; cat /disk/runs; mount | grep -q 'on /memory type tmpfs' || exit 9;"
        "test $(wc -l < /disk/runs) = 2",
        [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}],
        [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}],
    )
    made["spec"]["restartPolicy"] = "OnFailure"
    namespace.apply(made)
    assert namespace.finished("counter")["exitCode"] == 0
    assert namespace.get("pod", "counter")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_volume_above_the_checkout_does_not_hide_it(namespace: Namespace) -> None:
    """A checkout below /tmp, where nearly every pod mounts a volume of its own."""
    above = REPOSITORY.parents[-2]
    made = with_volumes(
        "covered",
        f"{sys.executable} -c 'import kubeseg_types' && touch {above}/mine && "
        f"ls -A {REPOSITORY}/.kubeseg | wc -l; touch {REPOSITORY}/x 2>/dev/null || echo read-only",
        [{"name": "disk", "emptyDir": {}}],
        [{"name": "disk", "mountPath": str(above)}],
    )
    namespace.apply(made)
    assert namespace.finished("covered")["exitCode"] == 0, namespace.kubectl("logs", "covered")
    lines = namespace.kubectl("logs", "covered").splitlines()
    assert (lines[0], lines[-1]) == ("0", "read-only"), "what is hidden stays so"


def test_a_persistent_volume_made_by_hand(namespace: Namespace, tmp_path_factory: Any) -> None:
    folder = namespace.cluster.cluster.layout.volumes / f"{namespace.name}-by-hand"
    folder.mkdir()
    (folder / "word").write_text("by hand")
    claim = json.loads(json.dumps(CLAIM))
    claim["spec"] |= {"storageClassName": "", "volumeName": namespace.name}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace.name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
            "claimRef": {"namespace": namespace.name, "name": "workspace"},
        },
    }
    mounts = [{"name": "w", "mountPath": "/workspace"}]
    namespace.apply(
        volume, claim,
        with_volumes("reader", "cat /workspace/word", WORKSPACE["spec_volumes"], mounts),
    )  # fmt: skip
    assert namespace.finished("reader")["exitCode"] == 0
    assert namespace.kubectl("logs", "reader") == "by hand"
    namespace.kubectl("delete", "pod", "reader")
    namespace.kubectl("delete", "pvc", "workspace")
    namespace.kubectl("delete", "pv", namespace.name)
    assert (folder / "word").exists(), "a retained volume keeps its files"


@pytest.mark.parametrize(
    ("script", "code", "reason", "message"),
    [
        ("echo -n done > /dev/termination-log", 0, "Completed", "done"),
        ("echo -n broken > /dev/termination-log; exit 7", 7, "Error", "broken"),
        ("exec python3 -c 'import ctypes; ctypes.string_at(0)'", 139, "Error", ""),
    ],
)
def test_exit_codes_and_termination_messages(
    namespace: Namespace, script: str, code: int, reason: str, message: str
) -> None:
    namespace.apply(pod("ends", script))
    ended = namespace.finished("ends")
    assert (ended["exitCode"], ended["reason"], ended.get("message", "")) == (code, reason, message)


def deleted(namespace: Namespace, name: str) -> float:
    """Delete the pod and wait until it is gone; the seconds it took."""
    started = time.monotonic()
    namespace.kubectl("delete", "pod", name)
    return time.monotonic() - started


def test_sigterm_is_heard_within_the_grace_period(namespace: Namespace) -> None:
    volumes, mounts = WORKSPACE["spec_volumes"], WORKSPACE["mounts"]
    script = "trap 'echo saved > /workspace/saved; exit 3' TERM; echo ready; sleep 1000 & wait"
    made = with_volumes("saves", script, volumes, mounts)
    made["spec"]["terminationGracePeriodSeconds"] = 30
    namespace.apply(CLAIM, made)
    wait_for("ready", lambda: "ready" in log_of(namespace.kubectl, "saves"))
    assert deleted(namespace, "saves") < 15
    namespace.apply(with_volumes("reads", "cat /workspace/saved", volumes, mounts))
    assert namespace.finished("reads")["exitCode"] == 0


def test_sigkill_follows_and_takes_every_descendant(namespace: Namespace) -> None:
    # Grandchildren in sessions of their own, which no signal to a process group would reach.
    script = "trap '' TERM; setsid -f sleep 98765; setsid -f sleep 98765; echo ready; sleep 98765"
    namespace.apply(pod("stubborn", script))
    wait_for("ready", lambda: "ready" in log_of(namespace.kubectl, "stubborn"))
    assert sleepers() >= 3
    took = deleted(namespace, "stubborn")
    assert 1.5 < took < 20, "2 s of grace"
    assert sleepers() == 0


def sleepers() -> int:
    """How many of the processes that the test above starts are alive."""
    from kubeseg_local.processes import PROC

    found = 0
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                found += (entry / "cmdline").read_bytes() == b"sleep\x0098765\x00"
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def test_the_log_has_both_streams_and_long_lines(namespace: Namespace) -> None:
    # Apart in time: two pipes have no order between them.
    script = (
        "echo out; sleep 1; echo err >&2; sleep 1;"
        "head -c 40000 /dev/zero | tr '\\0' x; echo; printf unended"
    )
    namespace.apply(pod("talks", script))
    assert namespace.finished("talks")["exitCode"] == 0
    lines = namespace.kubectl("logs", "talks").splitlines()
    assert lines[:2] == ["out", "err"]
    assert lines[2:] == ["x" * 40000, "unended"]
    (last,) = namespace.kubectl("logs", "talks", "--tail=1", "--timestamps").splitlines()
    assert last.endswith("Z unended")


def test_init_containers_come_first_and_work_dir_and_env_hold(namespace: Namespace) -> None:
    made = pod(
        "main",
        "pwd; cat /shared/word; echo $A; id -u; touch /new 2>&1 || echo read-only",
        workingDir="/shared",
        env=[{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}],
        volumeMounts=[{"name": "s", "mountPath": "/shared"}],
    )
    main = made["spec"]["containers"][0]
    main["securityContext"] |= {"readOnlyRootFilesystem": True, "runAsUser": 4321}
    first = container("echo prepared > /shared/word", name="first")
    first["volumeMounts"] = main["volumeMounts"]
    made["spec"] |= {"initContainers": [first], "volumes": [{"name": "s", "emptyDir": {}}]}
    namespace.apply(made)
    assert namespace.finished("main")["exitCode"] == 0
    lines = namespace.kubectl("logs", "main").splitlines()
    assert lines[:4] == ["/shared", "prepared", "1", "4321"]
    assert lines[-1] == "read-only"


def test_containers_see_neither_the_callers_environment_nor_home(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.apply(pod("looks", "env; ls /home /root /tmp"))
    assert namespace.finished("looks")["exitCode"] == 0
    log = namespace.kubectl("logs", "looks")
    names = {line.split("=")[0] for line in log.splitlines() if "=" in line}
    allowed = {"PATH", "HOSTNAME", "LANG", "HOME", "PWD", "PYTHONDONTWRITEBYTECODE"}
    allowed |= {"PYTHONUNBUFFERED", "SHLVL", "_", "OLDPWD"}
    assert {each for each in names if not each.startswith("KUBERNETES_")} <= allowed
    assert "HOME=/tmp" in log
    # The key to the whole cluster lies in this folder.
    kubeconfig = namespace.cluster.kubeconfig
    namespace.apply(pod("peeks", f"cat {kubeconfig}"))
    assert namespace.finished("peeks")["exitCode"] == 1
