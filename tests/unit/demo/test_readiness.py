"""When Deployments count as Ready, when waiting is useless, and why it takes long."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_local.demo.readiness import CRASHES_BORNE, readiness


def deployment(**status: Any) -> dict[str, Any]:
    full = {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
    return {
        "metadata": {"name": "kubeseg-api", "generation": 2},
        "spec": {"replicas": 1},
        "status": full | status,
    }


def pod(waiting: str = "", restarts: int = 0, *, ready: bool = False) -> dict[str, Any]:
    state = {"waiting": {"reason": waiting, "message": "for a reason"}} if waiting else {}
    container = {"restartCount": restarts, "ready": ready, "state": state}
    return {"metadata": {"name": "kubeseg-api-1"}, "status": {"containerStatuses": [container]}}


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, True),
        ({"availableReplicas": 0}, False),
        ({"observedGeneration": 1}, False),
        ({"replicas": 2}, False),  # the old pod is still there
        ({"updatedReplicas": 0}, False),
    ],
)
def test_ready_means_the_new_pods_and_only_they(status: dict[str, int], ready: bool) -> None:
    assert readiness([deployment(**status)], [], []).ready is ready


def test_nothing_is_not_ready() -> None:
    assert not readiness([], [], []).ready


@pytest.mark.parametrize(
    ("seen", "fatal"),
    [
        (pod("ContainerCreating"), None),
        (pod("ImagePullBackOff"), None),
        (pod("CreateContainerConfigError"), "CreateContainerConfigError: for a reason"),
        (pod("CrashLoopBackOff", CRASHES_BORNE - 1), None),
        (pod("CrashLoopBackOff", CRASHES_BORNE), "keeps crashing"),
        (pod("", CRASHES_BORNE, ready=True), None),
    ],
)
def test_when_waiting_is_useless(seen: dict[str, Any], fatal: str | None) -> None:
    found = readiness([deployment(availableReplicas=0)], [seen], [])
    assert (found.fatal is None) == (fatal is None)
    assert fatal is None or fatal in (found.fatal or "")
    assert not found.ready


def test_a_refused_pod_is_told_in_the_api_servers_words() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}
    found = readiness([deployment(availableReplicas=0, conditions=[condition])], [], [])
    assert found.fatal == "kubeseg-api: violates PodSecurity"


def test_reasons_why_it_takes_long() -> None:
    stuck = pod("ImagePullBackOff")
    stuck["status"]["conditions"] = [
        {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}
    ]
    claim = {"metadata": {"name": "workspace"}, "status": {"phase": "Pending"}}
    found = readiness([deployment(availableReplicas=0)], [stuck], [claim])
    assert found.waiting_for == [
        "claim workspace is Pending",
        "kubeseg-api-1: ImagePullBackOff: for a reason",
        "kubeseg-api-1 can't be scheduled: 0/1 nodes",
    ]
