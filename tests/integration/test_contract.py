"""The CRD on a real API server: defaults, bounds, CEL rules, and what may change later."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeseg_types.refusals import refusals
from kubeseg_types.rules import LIVE_TRAINING
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.training import Training
from tests.support.cluster import ROOT, KubectlError, Namespace, TestCluster, wait_for
from tests.unit.types.test_models import FINE, REFUSED, SMALLEST, merged

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def crd(cluster: TestCluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(
        ROOT / "charts/kubeseg/files/trainingjobs.yaml"
    ))  # fmt: skip
    wait_for(
        "the API server serves TrainingJobs",
        lambda: "trainingjobs" in cluster.kubectl("api-resources", "--api-group=kubeseg.dev"),
    )


@pytest.fixture
def space(crd: None, namespace: Namespace) -> Namespace:
    return namespace


def job(spec: dict[str, Any], name: str = "job") -> dict[str, Any]:
    return {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": spec,
    }


def refused(space: Namespace, manifest: dict[str, Any]) -> str:
    with pytest.raises(KubectlError) as caught:
        space.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    return str(caught.value)


def test_the_api_server_fills_in_what_the_models_would(space: Namespace) -> None:
    space.apply(job(SMALLEST))
    assert space.get("tj", "job")["spec"] == TrainingJobSpec.model_validate(SMALLEST).to_dict()


@pytest.mark.parametrize(("change", "field"), REFUSED)
def test_the_api_server_refuses_what_the_trainer_would(
    space: Namespace, change: dict[str, Any], field: str
) -> None:
    spec = merged(SMALLEST, change)
    sentence = refusals(TrainingJobSpec.model_validate(spec))[0]
    said = refused(space, job(spec))
    assert field in said
    assert sentence.split(": ", 1)[1] in said


@pytest.mark.parametrize("change", FINE)
def test_the_api_server_takes_what_the_trainer_would(
    space: Namespace, change: dict[str, Any]
) -> None:
    space.apply(job(merged(SMALLEST, change)))


CHANGES: dict[str, Any] = {
    "epochs": 9, "learningRate": 0.5, "batchSize": 3, "imageSize": 96,
    "optimizer": {"name": "SGD"}, "scheduler": {"name": "Constant"},
    "loss": {"terms": [{"name": "Dice"}]}, "augmentation": {"preset": "None"},
    "precision": "Float32", "seed": 7, "earlyStopping": {"patience": 3}, "accumulate": 2,
    "clip": 1, "stallTimeout": "5m", "imageMode": "Crop", "windowOverlap": 0.5, "compile": True,
    "ema": {"decay": 0.9}, "deterministic": True,
}  # fmt: skip

IMMUTABLE: list[dict[str, Any]] = [
    {"model": {"encoder": "resnet50"}}, {"dataset": {"testSize": 0.5}},
    {"workspace": {"claimName": "other"}}, {"workers": 2}, {"queueName": "team-a"},
]  # fmt: skip
MUTABLE: list[dict[str, Any]] = [
    {"suspend": True}, {"stop": True}, {"image": "other:1"}, {"maxRetries": 9},
    {"checkpoint": {"keepLast": 5}}, {"nodeSelector": {"disk": "fast"}},
    {"resources": {"memory": "8Gi"}}, {"ttlSecondsAfterFinished": 60},
]  # fmt: skip


def test_what_defines_a_training_must_not_change_and_the_rest_may(space: Namespace) -> None:
    fields = {info.alias or name for name, info in Training.model_fields.items()}
    assert set(CHANGES) == fields, "every field of training is tried"
    space.apply(job(SMALLEST))
    for field, value in CHANGES.items():
        manifest = job(merged(SMALLEST, {"training": {field: value}}))
        if field in LIVE_TRAINING:
            space.apply(manifest)
        else:
            said = refused(space, manifest)
            assert f"spec.training.{field}" in said
            assert "must not change once the job exists" in said
    for change in IMMUTABLE:
        assert "must not change" in refused(space, job(merged(SMALLEST, change)))
    for change in MUTABLE:
        space.apply(job(merged(SMALLEST, change)))


@pytest.mark.parametrize(
    ("name", "fine"),
    [("x" * 52, True), ("a-1", True), ("x" * 53, False), ("a.b", False), ("9", True)],
)
def test_names(space: Namespace, name: str, fine: bool) -> None:
    if fine:
        space.apply(job(SMALLEST, name))
    else:
        said = refused(space, job(SMALLEST, name))
        assert "metadata.name: Invalid value" in said
        assert "must have a name of at most 52 characters" in said
        assert "<nil>" not in said


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            {"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            "must have value or valueFrom, not both",
        ),
        ({"name": "A", "valueFrom": {}}, "must have exactly one of"),
        ({"name": "1A", "value": ""}, "spec.env[0].name"),
    ],
)
def test_unions(space: Namespace, env: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(space, job(merged(SMALLEST, {"env": [env]})))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"workers": 3, "training": {"batchSize": 3}}, ""),
        ({"workers": 3, "training": {"batchSize": 2}}, "must be at least workers x resources.gpus"),
        ({"resources": {"gpus": 4}, "training": {"batchSize": 4}}, ""),
        ({"resources": {"gpus": 4}, "training": {"batchSize": 3}}, "must be at least workers x"),
        (
            {"workers": 2, "resources": {"gpus": 2}, "training": {"batchSize": 3}},
            "must be at least workers x resources.gpus",
        ),
        ({"workers": 0}, "spec.workers"),
        ({"workers": 257}, "spec.workers"),
        ({"dataset": {"testSize": 0.9}}, ""),
        ({"dataset": {"testSize": 1}}, "must be at most 0.9"),
        ({"training": {"windowOverlap": 7}}, "must be at most 0.75"),
        ({"resources": {"memory": "2Gb"}}, "must be a quantity such as 500m, 2 or 16Gi"),
        ({"resources": {"sharedMemory": "-1"}}, "must be a quantity such as"),
        ({"queueName": "team-a"}, ""),
        ({"queueName": "x" * 64}, "spec.queueName"),
        ({"queueName": "No Queue"}, "spec.queueName"),
        ({"resourceClaims": [{"name": "a", "resourceClaimName": "b"}]}, ""),
        ({"resourceClaims": [{"name": "a"}]}, "must have exactly one of resourceClaimName"),
        (
            {
                "resourceClaims": [
                    {"name": "a", "resourceClaimName": "b", "resourceClaimTemplateName": "c"}
                ]
            },
            "must have exactly one of resourceClaimName",
        ),
    ],
)
def test_what_must_fit_together(space: Namespace, change: dict[str, Any], sentence: str) -> None:
    manifest = job(merged(SMALLEST, change))
    if sentence:
        assert sentence in refused(space, manifest)
    else:
        space.apply(manifest)


def test_the_short_name_and_the_columns(space: Namespace) -> None:
    space.apply(job(SMALLEST))
    header = space.kubectl("get", "tj").splitlines()[0].split()
    assert header == ["NAME", "PHASE", "EPOCH", "VAL-IOU", "BEST", "ETA", "UNSAVED", "GPUS", "AGE"]


def test_status_is_a_subresource(space: Namespace) -> None:
    space.apply(job(SMALLEST))
    space.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"status":{"phase":"Running"}}')
    assert "status" not in space.get("tj", "job")
    space.kubectl(
        "patch", "tj", "job", "--subresource=status", "--type=merge",
        "-p", '{"status":{"phase":"Running"}}',
    )  # fmt: skip
    assert space.get("tj", "job")["status"]["phase"] == "Running"
