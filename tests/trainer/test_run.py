"""A whole run: what it leaves, and that smp alone opens it."""

from __future__ import annotations

import hashlib
import json
import logging

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from kubeseg_trainer.cli import main
from tests.support.datasets import make_dataset
from tests.support.trainings import Place, config_of


def test_a_run_leaves_everything_that_the_contract_names(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert place.train(config_of(training={"epochs": 3}, checkpoint={"keepEpochs": True})) == 0

    record, history = place.record(), place.history()
    assert (record.state, record.reason, record.epoch) == ("Succeeded", "Trained", 3)
    assert [entry.epoch for entry in history] == [1, 2, 3]
    assert record.class_names == ["0", "1", "2"]
    for entry in history:
        assert entry.weights is not None
        data = (place.workspace / entry.weights.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.weights.sha256
        assert len(data) == entry.weights.bytes
        assert entry.train.samples + entry.validation.samples == 9
    best = max(history, key=lambda entry: (entry.validation.iou, -entry.epoch))
    assert record.best == best.metrics()
    assert record.best_weights == best.weights

    message = place.message()
    assert (message["exitCode"], message["reason"], message["epoch"]) == (0, "Trained", 3)
    assert best.weights is not None
    assert message["bestSha256"] == best.weights.sha256
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch ")]
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3  loss ")


def test_smp_alone_opens_the_model_and_gets_the_best_weights(place: Place) -> None:
    assert place.train(config_of()) == 0
    record = place.record()
    assert record.model is not None
    assert record.best_weights is not None
    model = smp.from_pretrained(str(place.workspace / record.model))
    best = load_file(place.workspace / record.best_weights.path)
    state = model.state_dict()
    assert state.keys() == best.keys()
    assert all(torch.equal(state[name], best[name]) for name in best)
    assert record.model_weights is not None
    assert record.model_weights.sha256 == record.best_weights.sha256


def test_a_weights_file_says_what_it_is(place: Place) -> None:
    names = [{"name": "ground"}, {"name": "disc"}, {"name": "other"}]
    assert place.train(config_of(dataset={"name": "discs", "classes": names})) == 0
    with safe_open(place.weights(2), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "Linknet"
    assert metadata["encoder"] == "tu-test_resnet"
    assert json.loads(metadata["classes"]) == ["ground", "disc", "other"]
    assert (metadata["inChannels"], metadata["epoch"]) == ("3", "2")


def test_weights_that_are_neither_best_nor_newest_go(place: Place) -> None:
    checkpoint = {"keepBest": 1, "keepLast": 1}
    assert place.train(config_of(training={"epochs": 4}, checkpoint=checkpoint)) == 0
    history = place.history()
    ranked = sorted(history, key=lambda entry: (-entry.validation.iou, entry.epoch))
    kept = {ranked[0].epoch, 4}
    for entry in history:
        assert entry.weights is not None
        assert (place.workspace / entry.weights.path).is_file() == (entry.epoch in kept)
    checkpoints = list(place.run_folder().glob("attempts/*/checkpoints/*"))
    assert len(checkpoints) == 1
    assert not list(place.run_folder().rglob(".tmp-*"))


def test_predict_writes_labels_of_each_images_own_size(place: Place) -> None:
    assert place.train(config_of()) == 0
    images = sorted((place.workspace / "datasets/discs/images").iterdir())[:2]
    out = place.workspace / "out"
    code = main(
        ["predict", str(place.weights(2)), *[str(image) for image in images], "--out", str(out)]
    )
    assert code == 0
    labels = np.asarray(Image.open(out / f"{images[0].stem}.png"))
    assert labels.shape == (40, 48)
    assert labels.dtype == np.uint8
    assert labels.max() <= 2


def test_the_ignored_label_is_neither_trained_on_nor_counted(place: Place) -> None:
    # The same images; where the masks say void, one data set says so by another number.
    folder = make_dataset(place.workspace, "voided", count=9)
    for file in (folder / "masks").iterdir():
        mask = np.array(Image.open(file))
        mask[:10] = 9
        Image.fromarray(mask).save(file)
    other = make_dataset(place.workspace, "voided-otherwise", count=9)
    for file in (other / "masks").iterdir():
        mask = np.array(Image.open(file))
        mask[:10] = 200
        Image.fromarray(mask).save(file)
    first = config_of("one", dataset={"name": "voided", "ignoreIndex": 9})
    second = config_of("two", dataset={"name": "voided-otherwise", "ignoreIndex": 200})
    assert place.train(first) == 0
    assert place.train(second) == 0
    assert place.record("one").class_names == ["0", "1", "2"]
    weights = [load_file(place.weights(2, job)) for job in ("one", "two")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_more_epochs_go_on_from_the_last_checkpoint_and_none_left_exports_again(
    place: Place,
) -> None:
    assert place.train(config_of()) == 0
    assert place.train(config_of(attempt=2, generation=2)) == 0
    assert place.record().attempt == 2
    assert [entry.attempt for entry in place.history()] == [1, 1]
    more = config_of(attempt=3, generation=3, training={"epochs": 4})
    assert place.train(more) == 0
    assert [entry.attempt for entry in place.history()] == [1, 1, 3, 3]
    assert place.message()["startEpoch"] == 2


def test_a_manifest_runs_without_a_cluster_and_goes_on_by_itself(place: Place) -> None:
    manifest = {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "by-hand"},
        "spec": {
            "model": {"architecture": "Linknet", "encoder": "tu-test_resnet"},
            "dataset": {"name": "discs"},
            "training": {"epochs": 1, "batchSize": 4, "imageSize": 32},
            "export": {"onnx": False},
        },
    }
    assert place.train(manifest) == 0
    manifest["spec"]["training"]["epochs"] = 2  # type: ignore[index]
    assert place.train(manifest) == 0
    history = place.history("by-hand", "local")
    assert [entry.attempt for entry in history] == [1, 2]
