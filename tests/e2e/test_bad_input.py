"""Wrong manifests and wrong data: a clear error, early, nothing lost."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
import yaml

from tests.e2e.installation import Installation, png, small_files, training_job, zipped

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"training": {"epoch": 3}}, 'unknown field "spec.training.epoch"'),
        ({"training": {"learningRate": 3}}, "spec.training.learningRate"),
        ({"training": {"epochs": "many"}}, "spec.training.epochs"),
        ({"model": {"architecture": "Unet3000"}}, 'supported values: "Unet"'),
        ({"dataset": {"name": "../secrets"}}, "spec.dataset.name"),
        ({"queueName": "Team A"}, "spec.queueName"),
        ({"workers": 16}, "must be at least workers x resources.gpus"),
    ],
)
def test_a_wrong_manifest_is_refused_with_a_sentence(
    kubeseg: Installation, change: dict[str, Any], sentence: str
) -> None:
    manifest = training_job("wrong", epochs=3)
    for key, value in change.items():
        part = manifest["spec"].get(key)
        manifest["spec"][key] = part | value if isinstance(part, dict) else value
    said = kubeseg.refused("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    assert sentence in said
    assert not kubeseg.get("tj", "wrong")


def test_a_name_that_is_too_long(kubeseg: Installation) -> None:
    manifest = training_job("x" * 53, epochs=3)
    said = kubeseg.refused("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    assert "must have a name of at most 52 characters" in said


def spoil(what: str) -> dict[str, bytes]:
    """A data set with one thing wrong with it."""
    files = small_files(6)
    if what == "size":
        files["masks/003.png"] = png(np.zeros((9, 9), np.uint8))
    elif what == "colour":
        files["masks/003.png"] = png(np.zeros((48, 48, 3), np.uint8))
    elif what == "label":
        files["masks/003.png"] = png(np.full((48, 48), 7, np.uint8))
    elif what == "broken":
        files["images/003.png"] = files["images/003.png"][:80]
    return files


@pytest.mark.parametrize("what", ["size", "colour", "label", "broken"])
def test_a_data_set_that_does_not_fit_fails_at_once_and_names_the_file(
    kubeseg: Installation, what: str
) -> None:
    kubeseg.data_set(f"bad-{what}", lambda: zipped(spoil(what)))
    manifest = training_job(f"bad-{what}", epochs=3, dataset=f"bad-{what}")
    if what == "label":
        manifest["spec"]["dataset"]["classes"] = [{"name": n} for n in ("bg", "disc", "square")]
    kubeseg.apply(manifest)
    status = kubeseg.wait_job(f"bad-{what}", "Failed", 90)
    failed = kubeseg.condition(f"bad-{what}", "Failed")
    assert failed["reason"] == "InvalidDataset"
    assert "003.png" in failed["message"]
    assert len(status["attempts"]) == 1, "what would happen again is not tried again"
    assert status["attempts"][0]["exitCode"] == 3


def test_an_unknown_data_set_names_those_there_are(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("no-data", epochs=3, dataset="smal"))
    kubeseg.wait_job("no-data", "Failed", 90)
    failed = kubeseg.condition("no-data", "Failed")
    assert failed["reason"] == "InvalidDataset"
    assert '"smal"' in failed["message"] or "'smal'" in failed["message"]
    assert "small" in failed["message"].replace("'smal'", "").replace('"smal"', "")


def test_an_encoder_that_does_not_exist(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    model = {"architecture": "Unet", "encoder": "resnet35"}
    kubeseg.apply(training_job("no-encoder", epochs=3, model=model))
    kubeseg.wait_job("no-encoder", "Failed", 90)
    failed = kubeseg.condition("no-encoder", "Failed")
    assert failed["reason"] == "InvalidConfiguration"
    assert "spec.model.encoder" in failed["message"]
    assert "resnet34" in failed["message"]


def test_an_image_that_can_not_be_pulled_is_said(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("no-image", epochs=3, image="example.test/trainer:9.9"))
    kubeseg.wait_job("no-image", "Blocked", 90)
    blocked = kubeseg.condition("no-image", "Blocked")
    assert "example.test/trainer:9.9" in blocked["message"]
    kubeseg.kubectl("delete", "tj", "no-image")


def test_more_gpus_than_there_are_is_said(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    manifest = training_job("no-gpu", epochs=3)
    manifest["spec"]["resources"] |= {"gpus": 1, "gpuResource": "example.test/tpu"}
    kubeseg.apply(manifest)
    kubeseg.wait_job("no-gpu", "Blocked", 90)
    assert "example.test/tpu" in kubeseg.condition("no-gpu", "Blocked")["message"]
    kubeseg.kubectl("delete", "tj", "no-gpu")


def test_uploads_that_must_not_be_taken(kubeseg: Installation) -> None:
    before = sorted(p.name for p in (kubeseg.workspace() / "datasets").iterdir())
    escaping = io.BytesIO()
    with zipfile.ZipFile(escaping, "w") as archive:
        for name, data in small_files(2).items():
            archive.writestr(name, data)
        archive.writestr("../../escaped.txt", b"out")
    for archive_bytes in (b"no zip at all", escaping.getvalue(), zipped({"a.txt": b"a"})):
        reply = kubeseg.upload("evil", archive_bytes)
        assert 400 <= reply.status_code < 500, reply.text
        assert len(reply.json()["detail"]) > 15
    workspace = kubeseg.workspace()
    assert not list(workspace.parent.rglob("escaped.txt"))
    assert sorted(p.name for p in (workspace / "datasets").iterdir()) == before
