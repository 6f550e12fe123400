"""What most tests on the cluster begin with; a file with other wishes has a `place` of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import TestCluster
from tests.support.operator_process import Place, operated


@pytest.fixture(scope="module")
def place(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace under Pod Security `restricted`, with a workspace and a running operator."""
    with operated(cluster, tmp_path_factory.mktemp("operator")) as place:
        yield place
