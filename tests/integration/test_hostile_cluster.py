"""TrainingJobs made to hurt: as large as the schema allows, strange names, statuses of others.

Whatever comes of them, the operator stays well and the jobs beside them train. Pods that are not
to be trusted are in test_operator_cluster.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import KubectlError, TestCluster, wait_for
from tests.support.operator_process import Place, operated

pytestmark = pytest.mark.cluster

LONGEST_NAME = "x" * 52
#: One character, three bytes: what counts characters and what counts bytes differ.
WIDE = "語"


@pytest.fixture(scope="module")
def place(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace with an operator of its own, whose log has no traceback at the end."""
    with operated(cluster, tmp_path_factory.mktemp("operator")) as place:
        yield place


def made(place: Place, name: str, script: dict[str, Any], meta: Any = None, **spec: Any) -> None:
    """A TrainingJob that is too large for `kubectl apply`, which keeps a copy in an annotation."""
    environment = [{"name": "SCRIPT", "value": json.dumps(script)}, *spec.pop("env", [])]
    wanted = {
        "dataset": {"name": "none"},
        "training": {"epochs": script.get("epochs", 1)},
        "resources": {"cpu": "10m", "memory": "64Mi", "sharedMemory": "16Mi"},
        "env": environment,
    }
    manifest = {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name} | (meta or {}),
        "spec": wanted | spec,
    }
    text = json.dumps(manifest).replace('"DEEP"', '{"f:a":' * 2000 + "{}" + "}" * 2000)
    place.kubectl("create", "-f", "-", stdin=text)


def well(place: Place, beside: str) -> None:
    """The operator is well, and a job beside them trains."""
    made(place, beside, {"epochs": 1, "seconds": 0.1})
    place.phase(beside, "Succeeded")
    assert place.operator.probe("healthz") == 200
    assert sum(place.operator.series("kubeseg_jobs").values()) >= 2


def test_the_largest_values_and_the_longest_name(place: Place) -> None:
    annotations = {f"example.com/{number}": WIDE * 8000 for number in range(10)}
    made(
        place,
        LONGEST_NAME,
        {"epochs": 1, "seconds": 0.1},
        {"annotations": annotations, "labels": {"a": "b" * 63}},
        env=[{"name": f"WIDE_{number}", "value": WIDE * 4096} for number in range(63)],
        podAnnotations={f"example.com/{number}": "w" * 4096 for number in range(32)},
        podLabels={f"example.com/{number}": "l" * 63 for number in range(32)},
        nodeSelector={"kubernetes.io/os": "linux"},
        tolerations=[{"operator": "Exists"}] * 32,
        maxRetries=100,
        activeDeadlineSeconds=31_536_000,
        ttlSecondsAfterFinished=31_536_000,
    )
    made(
        place,
        "too-much-for-a-pod",
        {"epochs": 1},
        podAnnotations={f"example.com/{number}": WIDE * 4096 for number in range(32)},
    )
    well(place, "beside-the-largest")
    place.phase(LONGEST_NAME, "Succeeded")
    # What the schema allows and a pod may not have is said, and not tried for ever in silence.
    why = place.phase("too-much-for-a-pod", "Blocked")["summary"]["why"]
    assert "spec.podAnnotations" in why


def test_what_is_nested_without_an_end_is_refused(place: Place) -> None:
    """In a list it would be there for every reader, and who can't read it would see no job."""
    for path in ("nodeAffinity", "podAffinity", "anything"):
        with pytest.raises(KubectlError, match=f"unknown field .*spec.affinity.{path}"):
            made(place, "deep", {"epochs": 1}, affinity={path: "DEEP"})
    well(place, "beside-the-deep")


def test_what_is_nested_without_an_end_where_no_schema_reaches(place: Place) -> None:
    """Of any object users may write who owns which of its fields."""
    owner = {
        "manager": "me",
        "operation": "Update",
        "apiVersion": "kubeseg.dev/v1alpha1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:workers": "DEEP"}},
    }
    made(place, "deep", {"epochs": 1, "seconds": 0.1}, {"managedFields": [owner]})
    text = place.kubectl("get", "tj", "deep", "-o", "json", "--show-managed-fields")
    assert text.count('"f:a"') == 2000, "it is there, for every reader"
    well(place, "beside-the-deep-one")
    place.phase("deep", "Succeeded")
    place.operator.end()
    place.operator.start()
    well(place, "after-a-restart")


def test_many_that_are_as_large_as_an_object_can_be(place: Place) -> None:
    """More than an answer may have: they are read in smaller pages."""
    fields: dict[str, Any] = {f"f:{number:05d}": {} for number in range(80_000)}
    owner = {
        "manager": "me",
        "operation": "Update",
        "apiVersion": "kubeseg.dev/v1alpha1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": fields},
    }
    for number in range(5):
        meta = {"managedFields": [owner]}
        made(place, f"large-{number}", {"epochs": 1, "seconds": 0.1}, meta, suspend=True)
    place.operator.end()
    place.operator.start()
    well(place, "beside-the-large-ones")
    for number in range(5):
        place.phase(f"large-{number}", "Suspended")
    place.kubectl("delete", "tj", *(f"large-{number}" for number in range(5)))


STRANGE: dict[str, dict[str, Any]] = {
    "finished-before-it-began": {"phase": "Succeeded", "completionTime": "1970-01-01T00:00:00Z"},
    "attempt-of-another": {
        "phase": "Running",
        "attempts": [{"number": 1, "jobName": "beside-1", "uid": "not-a-uid"}],
    },
    "far-attempt": {"attempts": [{"number": 2_000_000_000, "jobName": "y" * 63}]},
    "backwards": {
        "attempts": [
            {"number": 3, "jobName": "backwards-3", "endTime": "2999-01-01T00:00:00Z"},
            {"number": 2, "jobName": "backwards-3"},
        ],
        "retry": {"failures": -5, "notBefore": "2999-01-01T00:00:00Z"},
    },
    "no-times": {
        "startTime": "9999-12-31T23:59:59Z",
        "attempts": [{"number": 1, "jobName": "no-times-1", "startTime": "0001-01-01T00:00:00Z"}],
        "progress": {"epoch": 2_147_483_647, "epochs": -1, "etaSeconds": -1},
    },
}


def test_a_status_written_by_somebody_else(place: Place) -> None:
    """It may cost that job its way, and nobody else's."""

    def statuses() -> dict[str, dict[str, Any]]:
        jobs = {each["metadata"]["name"]: each for each in place.items("tj")}
        return {name: jobs[name].get("status", {}) for name in STRANGE}

    for name in STRANGE:
        made(place, name, {"epochs": 200, "seconds": 100})
    wait_for("all have begun", lambda: all(s.get("attempts") for s in statuses().values()))
    for name, status in STRANGE.items():
        patch = json.dumps({"status": status})
        place.kubectl("patch", "tj", name, "--subresource=status", "--type=merge", "-p", patch)
    well(place, "beside")
    for name in STRANGE:
        place.edit(name, suspend=True)

    def followed() -> bool:
        """Each job was looked at since: the second generation of its spec was seen."""
        return all(status.get("observedGeneration") == 2 for status in statuses().values())

    wait_for("each was visited", followed)
    place.kubectl("delete", "tj", *STRANGE)
    assert place.operator.probe("healthz") == 200
