"""The child Job against golden files (`UPDATE_GOLDEN=1` rewrites them), and what must hold."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeseg_operator.builders import child_job, config_text, owner_reference
from kubeseg_operator.rendezvous import as_wished, headless_service, service_name
from kubeseg_operator.views import JobView
from kubeseg_trainer.placement import pod_of
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


SEVERAL: dict[str, Any] = {
    "workers": 3,
    "queueName": "team-a",
    "resources": {"gpus": 2},
    "resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "fast-nic"}],
    "env": [
        {"name": "KUBESEG_WORKERS", "value": "7"},
        {"name": "KUBESEG_COORDINATOR", "value": "elsewhere:1"},
        {"name": "KUBESEG_PROCESSES", "value": "7"},
        {"name": "JOB_COMPLETION_INDEX", "value": "7"},
        {"name": "KUBESEG_RENDEZVOUS_TIMEOUT", "value": "60"},
    ],
}


@pytest.mark.parametrize(
    ("name", "spec", "attempt"),
    [
        ("plain", {}, 1),
        ("everything", EVERYTHING, 12),
        ("several", SEVERAL, 2),
        ("mig", {"resources": {"gpus": 1, "gpuResource": "nvidia.com/mig-1g.10gb"}}, 1),
    ],
)
def test_golden(name: str, spec: dict[str, Any], attempt: int) -> None:
    known = job(spec=spec, annotations={"kubeseg.dev/study": "ann-1", "other": "x"})
    text = yaml.safe_dump(built(known, attempt), sort_keys=True, width=100)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_no_gpu_is_a_valid_wish() -> None:
    (container,) = built(job())["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "4Gi"},
        "limits": {"memory": "4Gi"},
    }


def test_what_is_passed_on_is_passed_on_whole() -> None:
    """Every field of a pod that the spec has, with all that may stand in it."""
    toleration = {
        "key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute",
        "tolerationSeconds": 30,
    }  # fmt: skip
    zones = [{"key": "zone", "operator": "NotIn", "values": ["a", "b"]}]
    term = {"matchExpressions": zones, "matchFields": [{"key": "f", "operator": "Exists"}]}
    near = {
        "topologyKey": "rack",
        "labelSelector": {},
        "namespaces": ["one"],
        "namespaceSelector": {"matchLabels": {"team": "x"}, "matchExpressions": zones},
        "matchLabelKeys": ["l"],
        "mismatchLabelKeys": ["m"],
    }
    pods = {
        "requiredDuringSchedulingIgnoredDuringExecution": [near],
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": near}],
    }
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 9, "preference": term}],
        },
        "podAffinity": pods,
        "podAntiAffinity": pods,
    }
    pod = built(job(spec={"tolerations": [toleration], "affinity": affinity}))["spec"]["template"]
    assert pod["spec"]["tolerations"] == [toleration]
    assert pod["spec"]["affinity"] == affinity


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


def test_service_golden() -> None:
    known = job(spec=SEVERAL)
    text = yaml.safe_dump(headless_service(known, owner_reference(known)), sort_keys=True)
    file = GOLDEN / "service.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_what_the_trainer_makes_of_its_place() -> None:
    """The other side of the contract reads what the builder writes."""
    (container,) = built(job(spec=SEVERAL), 2)["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    pod = pod_of(env | {"JOB_COMPLETION_INDEX": "2", "POD_IP": "10.0.0.7"}, processes=None, gpus=0)
    assert (pod.index, pod.workers, pod.processes, pod.size) == (2, 3, 2, 6)
    assert (pod.host, pod.port) == ("job-2-0.kubeseg-job", 29500)
    assert env["KUBESEG_RENDEZVOUS_TIMEOUT"] == "60"


def test_a_worker_alone_may_run_as_many_processes_as_its_user_says() -> None:
    spec = {"env": [{"name": "KUBESEG_PROCESSES", "value": "2"}]}
    (container,) = built(job(spec=spec))["spec"]["template"]["spec"]["containers"]
    assert {"name": "KUBESEG_PROCESSES", "value": "2"} in container["env"]


@pytest.mark.parametrize("name", ["7", "x" * 52])
def test_names_of_services_and_pods_are_dns_labels(name: str) -> None:
    known = job(spec=SEVERAL, name=name)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", service_name(name))
    # Kubernetes refuses an Indexed Job whose last pod's host name would be too long.
    child = child_job(known, TrainingJobSpec.model_validate(known.spec), attempt=9999, image="i")
    assert len(f"{child['metadata']['name']}-255") <= 63


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"clusterIPs": ["None"], "type": "ClusterIP", "sessionAffinity": "None"}, True),
        ({"publishNotReadyAddresses": False}, False),
        ({"selector": {"app": "other"}}, False),
        ({"selector": None}, False),
        ({"ports": []}, False),
        ({"ports": [{"port": 29500, "targetPort": 29500}, {"port": 1}]}, True),
    ],
)
def test_a_service_that_was_changed_is_found_out(change: dict[str, Any], same: bool) -> None:
    known = job(spec=SEVERAL)
    wanted = headless_service(known, owner_reference(known))
    assert as_wished({"spec": wanted["spec"] | change}, wanted) is same


@pytest.mark.parametrize(
    ("spec", "checks"),
    [
        ({}, 60),
        ({"training": {"epochs": 1, "stallTimeout": "1h"}}, 120),
        # It has a moment at least.
        ({"training": {"epochs": 1, "stallTimeout": "1m"}}, 4),
        # Several answer only once they have met.
        ({"workers": 2}, 90),
        ({"workers": 2, "env": [{"name": "KUBESEG_RENDEZVOUS_TIMEOUT", "value": "3600"}]}, 180),
        ({"workers": 2, "env": [{"name": "KUBESEG_RENDEZVOUS_TIMEOUT", "value": "9" * 400}]}, 90),
    ],
)
def test_a_frozen_trainer_is_ended_after_the_stall_timeout(
    spec: dict[str, Any], checks: int
) -> None:
    wanted = TrainingJobSpec.model_validate(
        {"dataset": {"name": "d"}, "training": {"epochs": 1}} | spec
    )
    made = child_job(job(), wanted, attempt=1, image="trainer:1")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]
    assert (probe["failureThreshold"], probe["periodSeconds"]) == (checks, 30)
