"""The chart installed on the shared embedded cluster, in a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.installation import Installation
from tests.support.cluster import ROOT, TestCluster, wait_for

NAMESPACE = "kubeseg-e2e"
RELEASE = "kubeseg"
#: Which of the cluster's node ports is the facade's.
NODE_PORT = 20


def values(node_port: int) -> dict[str, Any]:
    """The demo's values; what differs lets this release live beside others, and train fast."""
    chosen: dict[str, Any] = yaml.safe_load((ROOT / "deploy/samples/demo-values.yaml").read_text())
    chosen["operator"]["namespaces"] = [NAMESPACE]
    chosen["operator"]["extraEnv"] = [{"name": "KUBESEG_BACKOFF_SECONDS", "value": "1"}]
    chosen["api"]["service"]["nodePort"] = node_port
    chosen["api"]["studyTemplate"] = {
        "model": {"encoder": "tu-lcnet_050"},
        "resources": {"cpu": "500m", "memory": "2Gi", "sharedMemory": "64Mi"},
    }
    return chosen


@pytest.fixture(scope="session")
def kubeseg(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """kubeseg installed, with a user's token and a facade that answers."""
    node_port = cluster.node_port(NODE_PORT)
    installation = Installation(cluster, NAMESPACE, f"http://127.0.0.1:{node_port}")
    cluster.kubectl("create", "namespace", NAMESPACE)
    labels = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", NAMESPACE, labels)
    file = tmp_path_factory.mktemp("chart") / "values.yaml"
    file.write_text(yaml.safe_dump(values(node_port)))
    # Other tests may have applied the CRD by hand.
    cluster.helm(
        "upgrade", "--install", RELEASE, str(ROOT / "charts/kubeseg"), "--take-ownership",
        "--namespace", NAMESPACE, "--values", str(file), "--wait", "--timeout", "120s",
    )  # fmt: skip
    installation.kubectl("create", "serviceaccount", "engineer")
    installation.kubectl(
        "create", "rolebinding", "engineer", f"--clusterrole={RELEASE}-user",
        f"--serviceaccount={NAMESPACE}:engineer",
    )  # fmt: skip
    installation.token = installation.kubectl("create", "token", "engineer").strip()
    wait_for("the facade is ready", lambda: _ready(installation.url))
    yield installation
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
