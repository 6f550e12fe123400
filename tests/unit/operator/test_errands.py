"""The check's and the clean-up's Job against golden files, and what must hold of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeseg_operator.errands import check_job, check_name, cleanup_job, cleanup_name
from kubeseg_operator.views import child_view
from kubeseg_types.names import MAX_NAME_LENGTH
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.trainer import TrainerConfig
from tests.support.operator_objects import UID, job
from tests.unit.operator.test_builders import EVERYTHING

GOLDEN = Path(__file__).parent / "golden"
BUILDERS = {"check": check_job, "cleanup": cleanup_job}


def built(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    known = job(spec=spec)
    parsed = TrainingJobSpec.model_validate(known.spec)
    return BUILDERS[kind](known, parsed, number=2, image="kubeseg-trainer:1.0")


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(
    ("name", "spec"), [("plain", {"resources": {"gpus": 1}}), ("everything", EVERYTHING)]
)
def test_golden(kind: str, name: str, spec: dict[str, Any]) -> None:
    text = yaml.safe_dump(built(kind, spec), sort_keys=True, width=100)
    file = GOLDEN / f"{kind}-{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("kind", BUILDERS)
def test_no_gpu_no_queue_and_no_node_that_is_for_gpus(kind: str) -> None:
    nodes = {"disk": "fast", "kubernetes.io/arch": "amd64"}
    manifest = built(kind, EVERYTHING | {"nodeSelector": nodes})
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert not {"affinity", "runtimeClassName", "schedulerName"} & set(pod)
    assert [t["key"] for t in pod["tolerations"]] == ["gpu"]
    asked = container["resources"]["requests"] | container["resources"]["limits"]
    assert set(asked) == {"cpu", "memory"}
    labels = manifest["metadata"]["labels"]
    assert not [name for name in labels if "kueue" in name]
    assert "kubeseg.dev/attempt" not in labels


@pytest.mark.parametrize("kind", BUILDERS)
def test_restricted_pod_security(kind: str) -> None:
    pod = built(kind, EVERYTHING)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_users_labels_and_annotations_are_passed_on_and_never_replace_ours(kind: str) -> None:
    metadata = built(kind, EVERYTHING)["spec"]["template"]["metadata"]
    assert metadata["labels"]["kubeseg.dev/job"] == "job"
    assert metadata["labels"]["app.kubernetes.io/name"] == f"kubeseg-{kind}"
    assert metadata["labels"]["team"] == "vision"
    assert metadata["annotations"]["note"] == "hello"


def test_the_check_reads_what_the_first_attempt_will_read() -> None:
    template = built("check", {"resources": {"gpus": 1}})["spec"]["template"]
    config = TrainerConfig.model_validate(
        json.loads(template["metadata"]["annotations"]["kubeseg.dev/config"])
    )
    assert (config.job, config.uid, config.attempt) == ("job", UID, 1)


def test_whose_they_are_is_known_though_the_clean_up_has_no_owner() -> None:
    check, cleanup = built("check", {}), built("cleanup", {})
    assert "ownerReferences" not in cleanup["metadata"]
    assert {"activeDeadlineSeconds", "ttlSecondsAfterFinished"} <= set(cleanup["spec"])
    assert (child_view(check).owner, child_view(cleanup).owner) == (UID, UID)


def test_names_fit_and_are_no_attempts_of_anyone() -> None:
    for name in (check_name("j" * MAX_NAME_LENGTH, 99), cleanup_name("j" * MAX_NAME_LENGTH, 9)):
        assert len(name) <= 63
        assert not name.rpartition("-")[2].isdecimal()
