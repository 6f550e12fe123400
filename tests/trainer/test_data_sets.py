"""Data sets other than masks in folders, trained on for real."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from tests.support import annotated
from tests.support.trainings import Place, config_of


def test_annotations_are_trained_on_and_drawn_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    annotated.write_coco(place.workspace / "datasets/pets")
    config = config_of(dataset={"name": "pets"}, training={"epochs": 1})
    assert place.train(config) == 0
    assert place.record().class_names == ["background", "cat", "dog"]
    (masks,) = (place.workspace / "checks").glob("*.masks")
    drawn = masks.stat().st_mtime_ns
    config["training"]["epochs"] = 2
    with caplog.at_level(logging.WARNING):
        assert place.train(config) == 0
    assert len(place.history()) == 2
    assert masks.stat().st_mtime_ns == drawn
    assert "have changed" not in caplog.text


def test_a_training_says_what_the_check_warns_of(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("L", (4, 4)).save(place.workspace / "datasets/discs/masks/extra.png")
    with caplog.at_level(logging.WARNING):
        assert place.train(config_of(training={"epochs": 1})) == 0
    assert "masks/extra.png has no image: left out" in caplog.text


def test_masks_of_0_and_255_are_trained_on(place: Place) -> None:
    for file in (place.workspace / "datasets/discs/masks").iterdir():
        mask = np.array(Image.open(file))
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(file)
    assert place.train(config_of(training={"epochs": 1})) == 0
    assert place.record().class_names == ["background", "object"]
    assert all(score is not None for score in place.history()[0].train.class_iou)
