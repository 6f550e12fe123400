"""What the demo trains: manifests that the contract accepts, and advice that names every call."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kubeseg_local.demo.advice import advice
from kubeseg_local.demo.failure import DemoError
from kubeseg_local.demo.plan import SAMPLE, Wish, make_plan, user_manifest
from kubeseg_types.spec import TrainingJobSpec


@pytest.mark.parametrize(
    ("images", "wish", "training"),
    [
        (469, Wish(ignore=11), {"epochs": 8, "batchSize": 8, "imageSize": 160}),
        (40_000, Wish(), {"epochs": 5, "batchSize": 8, "imageSize": 160}),
        (3, Wish(), {"epochs": 30, "batchSize": 1, "imageSize": 160}),
        (100, Wish(epochs=2, size=333), {"epochs": 2, "batchSize": 8, "imageSize": 333}),
    ],
)
def test_user_manifest(images: int, wish: Wish, training: dict[str, int]) -> None:
    body = user_manifest("streets", images, wish)
    assert body["spec"]["training"] == training
    spec = TrainingJobSpec.model_validate(body["spec"])
    assert spec.dataset.ignore_index == wish.ignore
    assert body["metadata"]["name"] == spec.dataset.name == "streets"


def test_the_sample_is_applied_as_it_lies_in_the_repository(tmp_path: Path) -> None:
    plan = make_plan(Wish(), tmp_path, tmp_path)
    assert plan.manifest == SAMPLE
    assert plan.dataset == yaml.safe_load(SAMPLE.read_text())["spec"]["dataset"]["name"]
    assert plan.copy == "demo/shapes"
    assert plan.held_back.image.exists()
    again = tmp_path / "again"
    again.mkdir()
    assert make_plan(Wish(), again, tmp_path).sha256 == plan.sha256


def test_other_epochs_make_another_manifest(tmp_path: Path) -> None:
    plan = make_plan(Wish(epochs=3), tmp_path, tmp_path)
    body = yaml.safe_load(plan.manifest.read_text())
    assert plan.manifest != SAMPLE
    assert body["spec"]["training"]["epochs"] == 3
    assert body["metadata"]["name"] == plan.job == "quickstart"


def test_a_void_label_needs_data(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="IGNORE= goes with DATA="):
        make_plan(Wish(ignore=3), tmp_path, tmp_path)


def test_advice_has_a_call_for_each_of_the_contract() -> None:
    text = advice("http://127.0.0.1:1", "shapes", "demo-3", "quickstart", "demo")
    for wanted in (
        "call 'http://127.0.0.1:1/modeles'",
        "-X POST 'http://127.0.0.1:1/modeles?",
        "-X DELETE 'http://127.0.0.1:1/modeles?",
        "-X POST 'http://127.0.0.1:1/study?User=demo&FileName=shapes&",
        "call 'http://127.0.0.1:1/study?ModelName=demo-3'",
        "-X PUT 'http://127.0.0.1:1/study?ModelName=demo-3&Epochs=",
        "-X DELETE 'http://127.0.0.1:1/study?ModelName=demo-3'",
        "/checkstudy?ModelName=demo-3&Epoch=1'",
        "?format=pt",
        "make down",
    ):
        assert wanted in text
