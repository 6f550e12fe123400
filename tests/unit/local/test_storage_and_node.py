from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeseg_local import storage
from kubeseg_local.housekeeping import node_is_ready, node_status, node_taints


def claim(**changes: Any) -> dict[str, Any]:
    spec = {
        "storageClassName": "kubeseg-local",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
        **changes.pop("spec", {}),
    }
    metadata = {"name": "c", "namespace": "a", "uid": "0123456789ab", "resourceVersion": "5"}
    return {
        "metadata": metadata | changes.pop("metadata", {}),
        "spec": spec,
        "status": {"phase": "Pending"} | changes,
    }


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (claim(), True),
        (claim(phase="Bound"), False),
        (claim(spec={"storageClassName": "other"}), False),
        (claim(spec={"volumeName": "by-hand"}), False),
        (claim(metadata={"deletionTimestamp": "now"}), False),
    ],
)
def test_which_claims_get_a_volume(one: dict[str, Any], wanted: bool) -> None:
    assert bool(storage.missing([one], [])) is wanted


def test_a_claim_gets_one_volume_that_binds_to_nothing_else() -> None:
    volume = storage.volume_for(claim(), Path("/v/a_c_01234567"))
    assert storage.missing([claim()], [volume]) == []
    assert volume["spec"]["claimRef"]["uid"] == "0123456789ab"
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["spec"]["hostPath"]["path"] == "/v/a_c_01234567"


@pytest.mark.parametrize(
    ("changes", "is_released"),
    [
        ({"status": {"phase": "Released"}}, True),
        ({"status": {"phase": "Bound"}}, False),
        ({"status": {"phase": "Released"}, "policy": "Retain"}, False),
        ({"status": {"phase": "Released"}, "by": "somebody"}, False),
        ({"status": {"phase": "Released"}, "deleting": True}, False),
    ],
)
def test_which_volumes_are_deleted(changes: dict[str, Any], is_released: bool) -> None:
    volume = storage.volume_for(claim(), Path("/v/x")) | {"status": changes["status"]}
    volume["spec"]["persistentVolumeReclaimPolicy"] = changes.get("policy", "Delete")
    volume["metadata"]["annotations"][storage.PROVISIONED_BY] = changes.get(
        "by", storage.PROVISIONER
    )
    if changes.get("deleting"):
        volume["metadata"]["deletionTimestamp"] = "now"
    assert bool(storage.released([volume])) is is_released


GOOD = {
    "spec": {},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": "kubeseg-local"},
        ],
        "capacity": {"cpu": "2", "nvidia.com/gpu": "2"},
        "allocatable": {"cpu": "2", "nvidia.com/gpu": "2"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


def test_a_node_that_is_right_is_left_alone() -> None:
    assert node_status(GOOD, 2) is None
    assert node_taints(GOOD) is None
    assert node_is_ready(GOOD, 2)


def test_a_new_node_gets_its_address_and_gpus() -> None:
    fresh = {"spec": {}, "status": {"capacity": {"cpu": "2"}}}
    patch = node_status(fresh, 2)
    assert patch is not None
    assert patch["status"]["addresses"] == GOOD["status"]["addresses"]
    assert patch["status"]["capacity"] == {"nvidia.com/gpu": "2"}
    assert patch["status"]["allocatable"] == {"nvidia.com/gpu": "2"}
    assert node_status(GOOD, 0) is None, "without GPUs nothing is pretended"


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        (["node.cloudprovider.kubernetes.io/uninitialized"], None),
        (["node.cloudprovider.kubernetes.io/uninitialized", "mine"], [{"key": "mine"}]),
    ],
)
def test_only_the_taint_of_a_node_without_an_address_is_removed(
    keys: list[str], left: list[dict[str, str]] | None
) -> None:
    node = {"spec": {"taints": [{"key": each} for each in keys]}}
    assert node_taints(node) == {"spec": {"taints": left}}


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready"}]}},
        {"status": {**GOOD["status"], "conditions": []}},
        {"status": {**GOOD["status"], "addresses": []}},
        {"status": {**GOOD["status"], "allocatable": {}}},
    ],
)
def test_a_node_that_can_not_take_pods_is_not_ready(change: dict[str, Any]) -> None:
    assert not node_is_ready({**GOOD, **change}, 2)
