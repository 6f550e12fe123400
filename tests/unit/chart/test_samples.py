"""The samples are what the API server takes, and what this version does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kubeseg_types import crd
from kubeseg_types.names import API_VERSION, KIND
from kubeseg_types.refusals import refusals
from kubeseg_types.spec import TrainingJobSpec
from tests.unit.chart.conftest import CHART, ROOT, Render

SAMPLES = sorted(
    p for p in (ROOT / "deploy" / "samples").glob("*.yaml") if not p.stem.endswith("-values")
)
DEMO_VALUES = ROOT / "deploy" / "samples" / "demo-values.yaml"


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_a_sample_is_a_valid_training_job(path: Path) -> None:
    job = load(path)
    assert (job["apiVersion"], job["kind"]) == (API_VERSION, KIND)
    spec = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    jsonschema.Draft4Validator(spec).validate(job["spec"])
    assert refusals(TrainingJobSpec.model_validate(job["spec"])) == []


def test_the_full_sample_names_every_field_that_may_be_set() -> None:
    spec = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    text = (ROOT / "deploy" / "samples" / "full.yaml").read_text()
    named = {line.strip(" #").split(":")[0] for line in text.splitlines()}
    assert set(spec["properties"]) <= named
    for part in ("dataset", "training", "checkpoint", "resources"):
        left_out = {"encoderWeights", "compile"}
        assert set(spec["properties"][part]["properties"]) - left_out <= named, part


def test_the_demo_installs_the_chart_with_values_only(render: Render) -> None:
    manifests = render("--values", str(DEMO_VALUES))
    images = {
        c["image"]
        for m in manifests
        if m["kind"] == "Deployment"
        for c in m["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"kubeseg-operator:dev", "kubeseg-api:dev"}


def test_the_demos_study_template_is_a_valid_part_of_a_spec() -> None:
    template = load(DEMO_VALUES)["api"]["studyTemplate"]
    study = {"dataset": {"name": "a/b"}, "training": {"epochs": 1}}
    assert refusals(TrainingJobSpec.model_validate(study | template)) == []


def test_chart_and_package_have_one_version() -> None:
    chart = load(CHART / "Chart.yaml")
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["version"]}"' in text
    assert chart["appVersion"] == chart["version"]
