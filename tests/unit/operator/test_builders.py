"""The child Job against golden files (`UPDATE_GOLDEN=1` rewrites them), and what must hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeseg_operator.builders import child_job, config_text
from kubeseg_operator.views import JobView
from kubeseg_types.names import MAX_CONFIG_BYTES
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.trainer import TrainerConfig
from tests.support.operator_objects import job

GOLDEN = Path(__file__).parent / "golden"

EVERYTHING: dict[str, Any] = {
    "image": "registry.example/trainer:2",
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull"}],
    "resources": {
        "gpus": 1,
        "gpuResource": "amd.com/gpu",
        "cpu": "2500m",
        "memory": "16Gi",
        "sharedMemory": "8Gi",
    },
    "env": [
        {"name": "LEVEL", "value": "debug"},
        {"name": "EMPTY", "value": ""},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {
            "name": "PLACE",
            "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}},
        },
        {"name": "POD_IP", "value": "1.2.3.4"},
    ],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                ]
            }
        }
    },
    "schedulerName": "binpack",
    "priorityClassName": "low",
    "runtimeClassName": "nvidia",
    "workspace": {"claimName": "fast-workspace"},
    "podLabels": {
        "team": "vision",
        "app.kubernetes.io/part-of": "city",
        "kubeseg.dev/job": "stolen",
        "app.kubernetes.io/name": "x",
    },
    "podAnnotations": {"note": "hello", "kubeseg.dev/config": "{}"},
}


def built(known: JobView, attempt: int = 1) -> dict[str, Any]:
    spec = TrainingJobSpec.model_validate(known.spec)
    return child_job(known, spec, attempt=attempt, image="kubeseg-trainer:1.0")


@pytest.mark.parametrize(
    ("name", "spec", "attempt"), [("plain", {}, 1), ("everything", EVERYTHING, 12)]
)
def test_golden(name: str, spec: dict[str, Any], attempt: int) -> None:
    known = job(spec=spec, annotations={"kubeseg.dev/study": "ann-1", "other": "x"})
    text = yaml.safe_dump(built(known, attempt), sort_keys=True, width=100)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_the_users_labels_never_replace_ours() -> None:
    template = built(job(spec=EVERYTHING))["spec"]["template"]["metadata"]
    assert template["labels"]["kubeseg.dev/job"] == "job"
    assert template["labels"]["app.kubernetes.io/name"] == "kubeseg-trainer"
    assert template["labels"]["team"] == "vision"
    assert json.loads(template["annotations"]["kubeseg.dev/config"])["job"] == "job"


def test_the_users_environment_never_replaces_ours() -> None:
    (container,) = built(job(spec=EVERYTHING))["spec"]["template"]["spec"]["containers"]
    (own,) = [entry for entry in container["env"] if entry["name"] == "POD_IP"]
    assert own["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_the_configuration_is_what_the_trainer_reads() -> None:
    known = job(generation=7, annotations={"kubeseg.dev/study": "ann-1", "other": "x"})
    text = config_text(known, TrainingJobSpec.model_validate(known.spec), attempt=3)
    config = TrainerConfig.model_validate_json(text)
    assert (config.attempt, config.generation, config.uid) == (3, 7, known.uid)
    assert config.annotations == {"kubeseg.dev/study": "ann-1"}


def test_the_largest_configuration_fits() -> None:
    classes = [{"name": "☃" * 63} for _ in range(256)]
    spec = {"dataset": {"name": "d", "classes": classes}}
    known = job(spec=spec)
    text = config_text(known, TrainingJobSpec.model_validate(known.spec), attempt=1)
    assert len(text.encode()) < MAX_CONFIG_BYTES


def test_restricted_pod_security() -> None:
    pod = built(job(spec=EVERYTHING))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    allowed = {"persistentVolumeClaim", "downwardAPI", "emptyDir"}
    assert all((set(volume) - {"name"}) <= allowed for volume in pod["volumes"])
