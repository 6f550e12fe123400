"""The chart on the cluster: what an upgrade, an uninstall and a second installation do.

Also what its pods may do and what they can be asked for, while one training runs through it all.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.installation import Installation
from tests.support.cluster import ROOT, Namespace, TestCluster, wait_for
from tests.support.datasets import make_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CHART = ROOT / "charts" / "kubeseg"
CRD = "customresourcedefinition/trainingjobs.kubeseg.dev"
NODE_PORT = 40
Helm = Callable[..., str]


@pytest.fixture
def installation(namespace: Namespace, cluster: TestCluster) -> Iterator[Installation]:
    """A namespace for a release; the CRD is left as it was found."""
    was_there = cluster.kubectl("get", CRD, "--ignore-not-found")
    url = f"http://127.0.0.1:{cluster.node_port(NODE_PORT)}"
    yield Installation(cluster, namespace.name, url)
    namespace.kubectl("delete", "tj", "--all", "--ignore-not-found")
    releases = json.loads(cluster.helm("list", "-n", namespace.name, "-o", "json"))
    for release in releases:
        cluster.helm("uninstall", release["name"], "--namespace", namespace.name, "--wait")
    if not was_there:
        cluster.kubectl("delete", CRD)


@pytest.fixture
def install(installation: Installation, cluster: TestCluster) -> Helm:
    """`helm upgrade --install` of a chart with these arguments, waiting until all is Ready."""

    def run(chart: Path, *arguments: str) -> str:
        return cluster.helm(
            "upgrade", "--install", "chart", str(chart), "--namespace", installation.name,
            "--values", str(ROOT / "deploy/samples/demo-values.yaml"), "--take-ownership",
            "--set", f"api.service.nodePort={cluster.node_port(NODE_PORT)}",
            "--set", f"operator.namespaces={{{installation.name}}}",
            "--wait", "--timeout", "120s", *arguments,
        )  # fmt: skip

    return run


def with_another_column(folder: Path) -> Path:
    """A copy of the chart, as a later version might be: its CRD has one more printer column."""
    chart = Path(shutil.copytree(CHART, folder / "kubeseg"))
    file = chart / "files" / "trainingjobs.yaml"
    column = "- name: Retries\n      type: integer\n      jsonPath: .spec.maxRetries\n    "
    text = file.read_text()
    assert "- name: Age" in text
    file.write_text(text.replace("- name: Age", f"{column}- name: Age", 1))
    return chart


def columns(cluster: TestCluster) -> list[str]:
    crd = json.loads(cluster.kubectl("get", CRD, "-o", "json"))
    return [c["name"] for c in crd["spec"]["versions"][0]["additionalPrinterColumns"]]


def endless_job(name: str = "endless", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"encoder": "tu-lcnet_050"},
            "dataset": {"name": "discs"},
            "training": {"epochs": 10_000, "imageSize": 32, "batchSize": 2},
            "resources": {"cpu": "200m", "memory": "2Gi", "sharedMemory": "64Mi"},
        }
        | spec,
    }


def metric_names(address: str, port: int) -> set[str]:
    """The names that a pod serves; empty while it does not serve yet."""
    try:
        text = httpx.get(f"http://{address}:{port}/metrics", timeout=5).text
    except httpx.TransportError:
        return set()
    return set(re.findall(r"^(kubeseg_[a-z_]+)", text, re.MULTILINE))


def audit_log(cluster: TestCluster) -> list[str]:
    return (cluster.cluster.directory / "logs" / "audit.log").read_text().splitlines()


def refused_calls(log: list[str], account: str) -> list[str]:
    """What these lines of the audit log say this service account was not allowed to do."""
    entries = [json.loads(line) for line in log if account in line]
    return [
        f"{e['verb']} {e['requestURI']}"
        for e in entries
        if e["user"].get("username") == account and e.get("responseStatus", {}).get("code") == 403
    ]


def test_trainings_and_data_outlive_upgrade_and_uninstall(
    cluster: TestCluster, installation: Installation, install: Helm, tmp_path: Path
) -> None:
    install(CHART)
    make_dataset(installation.workspace(), "discs")
    claim = installation.get("pvc", "kubeseg-workspace")["metadata"]["uid"]
    installation.apply(endless_job())
    installation.wait_epoch("endless", 1)
    pod = installation.items("pod", "kubeseg.dev/job=endless")[0]
    installation.apply(endless_job("stuck", nodeSelector={"disk": "fast"}))
    installation.wait_job("stuck", "Blocked")

    # Every metric of the dashboards is served by somebody.
    dashboards = "".join(path.read_text() for path in (CHART / "dashboards").glob("*.json"))
    asked = set(re.findall(r"\bkubeseg_[a-z_]+", dashboards))
    operator = installation.items("pod", "app.kubernetes.io/component=operator")[0]
    served = metric_names(pod["status"]["podIP"], 9100)
    served |= metric_names(operator["status"]["podIP"], 9090)
    assert asked - served == set()
    installation.kubectl("delete", "tj", "stuck")

    # An upgrade changes the CRD too, and disturbs no training.
    assert "Retries" not in columns(cluster)
    install(with_another_column(tmp_path), "--set", "api.replicas=2")
    assert "Retries" in columns(cluster)
    assert installation.items("poddisruptionbudget")[0]["spec"]["maxUnavailable"] == 1

    account = f"system:serviceaccount:{installation.name}:chart-kubeseg-operator"
    before = audit_log(cluster)

    # Uninstalled: the training goes on, unwatched; CRD and claim stay. Helm takes the roles away
    # while the operator is still ending, so what is refused in that time says nothing.
    cluster.helm("uninstall", "chart", "--namespace", installation.name, "--wait")
    assert installation.items("deployment") == []
    wait_for(
        "the operator's end",
        lambda: installation.items("pod", "app.kubernetes.io/component=operator") == [],
    )
    gone = len(audit_log(cluster))
    assert "Retries" in columns(cluster)
    seen = installation.status("endless")["progress"]["epoch"]

    install(CHART)
    assert "Retries" not in columns(cluster)
    assert installation.get("pvc", "kubeseg-workspace")["metadata"]["uid"] == claim
    installation.wait_epoch("endless", seen + 1)
    still = installation.items("pod", "kubeseg.dev/job=endless")
    assert [p["metadata"]["uid"] for p in still] == [pod["metadata"]["uid"]]

    assert refused_calls(before + audit_log(cluster)[gone:], account) == []


def test_anonymous_calls_have_the_rights_of_the_role_they_were_given(
    installation: Installation, install: Helm
) -> None:
    install(CHART, "--set", "operator.enabled=false")

    def code(method: str, path: str) -> int:
        return httpx.request(method, f"{installation.url}{path}", timeout=10).status_code

    assert code("GET", "/v1/datasets") == 401
    install(CHART, "--set", "operator.enabled=false", "--set", "api.anonymous.enabled=true")
    wait_for("anonymous calls", lambda: code("GET", "/v1/datasets") == 200)
    assert code("DELETE", "/v1/datasets/none") == 403
    install(
        CHART, "--set", "operator.enabled=false", "--set", "api.anonymous.enabled=true",
        "--set", "api.anonymous.role=user",
    )  # fmt: skip
    wait_for("the role of a user", lambda: code("DELETE", "/v1/datasets/none") == 404)
