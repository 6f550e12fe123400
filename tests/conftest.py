"""The embedded cluster, started once for all tests that ask for it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from kubeseg_local.cluster import Cluster
from tests.support.cluster import GPUS, Namespace, TestCluster, free_slot


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with the marker `last` come after all others."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """A running cluster, in a folder and on ports of its own; removed when the session ends."""
    with free_slot() as slot:
        cluster = Cluster(slot.directory, slot.port_base, GPUS)
        try:
            cluster.up()
            yield TestCluster(cluster)
        finally:
            cluster.down()


@pytest.fixture
def namespace(cluster: TestCluster) -> Iterator[Namespace]:
    """A fresh namespace in which Pod Security `restricted` is enforced."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Namespace(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
