"""A namespace with an operator of its own, which is deleted while a training runs in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.support.cluster import ROOT, TestCluster
from tests.support.operator_process import CLAIM, OperatorProcess, Place, add_scripted_trainer

pytestmark = pytest.mark.cluster

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"


@pytest.fixture
def place(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The rights are an administrator's: a role in the namespace would go with it."""
    add_scripted_trainer(cluster)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    place = Place(cluster, f"doomed-{secrets.token_hex(3)}")
    cluster.kubectl("create", "namespace", place.name)
    place.apply(CLAIM)
    log = tmp_path_factory.mktemp("doomed") / "operator.log"
    place.operator = OperatorProcess(place.name, log, cluster.kubeconfig)
    place.operator.start()
    yield place
    place.operator.stop()
    cluster.kubectl("delete", "namespace", place.name, "--wait=false", "--ignore-not-found")


def test_the_deletion_of_a_namespace_does_not_hang(place: Place) -> None:
    place.job("doomed", {"epochs": 100, "seconds": 100}, artifacts={"onDelete": "Delete"})
    place.phase("doomed", "Running")
    place.cluster.kubectl("delete", "namespace", place.name, "--timeout=90s")
    text = place.operator.log.read_text()
    assert "doomed: ArtifactsLeft: " in text
    assert "Traceback" not in text, text
