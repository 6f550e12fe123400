"""The chart installed on the shared embedded cluster, in a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.installation import Installation, installed, values
from tests.support.cluster import TestCluster

NAMESPACE = "kubeseg-e2e"
#: Which of the cluster's node ports is the facade's.
NODE_PORT = 20


@pytest.fixture(scope="session")
def kubeseg(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """kubeseg installed, with a user's token and a facade that answers."""
    node_port = cluster.node_port(NODE_PORT)
    folder = tmp_path_factory.mktemp("chart")
    with installed(cluster, NAMESPACE, values(NAMESPACE, node_port), folder) as installation:
        yield installation
