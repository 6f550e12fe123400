"""Scheduling, authority and refusals on the embedded cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.cluster import GPUS, KubectlError, Namespace, condition, pod, wait_for

pytestmark = pytest.mark.cluster


def waiting_reason(each: dict[str, Any]) -> str:
    states = each["status"].get("containerStatuses", [])
    return str(states[0]["state"].get("waiting", {}).get("reason", "")) if states else ""


def test_gpus_are_counted(namespace: Namespace) -> None:
    limits = {"limits": {"nvidia.com/gpu": GPUS}}
    namespace.apply(pod("takes-all", "exec sleep 1000", resources=limits))
    namespace.wait_phase("takes-all", "Running")
    namespace.apply(pod("waits", "true", resources={"limits": {"nvidia.com/gpu": 1}}))
    waits = namespace.wait("pod", "waits", lambda each: condition(each, "PodScheduled") == "False")
    scheduled = waits["status"]["conditions"][0]
    assert scheduled["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in scheduled["message"]
    namespace.kubectl("delete", "pod", "takes-all")
    assert namespace.finished("waits")["exitCode"] == 0


def test_requests_beyond_the_node_are_unschedulable(namespace: Namespace) -> None:
    namespace.apply(pod("huge", "true", resources={"requests": {"memory": "100Ti", "cpu": "5k"}}))
    huge = namespace.wait("pod", "huge", lambda each: condition(each, "PodScheduled") == "False")
    message = huge["status"]["conditions"][0]["message"]
    assert "Insufficient cpu" in message
    assert "Insufficient memory" in message


@pytest.mark.parametrize(
    ("image", "reasons"),
    [
        ("kubeseg-tools:missing", {"ImagePullBackOff"}),  # takes the kubelet ten seconds
        ("registry.invalid/team/nothing:1", {"ErrImagePull", "ImagePullBackOff"}),
    ],
)
def test_an_image_that_is_not_there(namespace: Namespace, image: str, reasons: set[str]) -> None:
    namespace.apply(pod("pulls", "true", image=image))
    pulls = namespace.wait("pod", "pulls", lambda each: waiting_reason(each) in reasons)
    assert image in pulls["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert "not found" in namespace.events()


def test_a_program_that_is_not_there(namespace: Namespace) -> None:
    namespace.apply(pod("starts", "", command=["no-such-program"]))
    ended = namespace.finished("starts")
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "'no-such-program': no such program in the container" in namespace.events()


def test_pod_security_refuses(namespace: Namespace) -> None:
    refused = pod("root", "true")
    refused["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        namespace.apply(refused)


def test_run_as_non_root_refuses_an_image_of_root(namespace: Namespace) -> None:
    namespace.apply(pod("root", "true", image="busybox"))
    namespace.wait("pod", "root", lambda e: waiting_reason(e) == "CreateContainerConfigError")
    assert "image will run as root" in namespace.events()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shareProcessNamespace": True}, "shareProcessNamespace is not supported"),
        ({"port": 31999}, "hostPort 31999 is not supported"),
    ],
)
def test_what_processes_can_not_do_is_refused(
    namespace: Namespace, change: dict[str, Any], word: str
) -> None:
    made = pod("asks", "true")
    if "port" in change:
        port = {"containerPort": 80, "hostPort": change["port"]}
        made["spec"]["containers"][0]["ports"] = [port]
        relaxed = "pod-security.kubernetes.io/enforce=privileged"
        namespace.cluster.kubectl("label", "namespace", namespace.name, relaxed, "--overwrite")
    else:
        made["spec"] |= change
    namespace.apply(made)
    wait_for("the refusal", lambda: word in namespace.events())


def test_service_accounts_may_do_what_their_roles_say(namespace: Namespace) -> None:
    namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
        },
    )  # fmt: skip
    token = namespace.kubectl("create", "token", "reader").strip()
    # Without the administrator's certificate, which would win over the token.
    config = json.loads(namespace.cluster.kubeconfig.read_text())
    user = config["users"][0]
    user["user"] = {"token": token}
    path = namespace.cluster.cluster.layout.config / f"{namespace.name}.kubeconfig"
    path.write_text(json.dumps(config))
    mine = ("--kubeconfig", str(path))
    assert "kube-root-ca.crt" in namespace.kubectl(*mine, "get", "configmaps")
    with pytest.raises(KubectlError, match='cannot list resource "secrets"'):
        namespace.kubectl(*mine, "get", "secrets")
    log = namespace.cluster.cluster.layout.audit_log.read_text()
    account = f"system:serviceaccount:{namespace.name}:reader"
    seen = [json.loads(line) for line in log.splitlines() if account in line]
    assert {each["responseStatus"]["code"] for each in seen} >= {200, 403}
