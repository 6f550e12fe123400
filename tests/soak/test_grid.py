"""The whole grid of what the contract allows, one step each: hours, in `make soak` only."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeseg_types.spec import Architecture
from tests.support.datasets import make_dataset
from tests.support.trainings import Place, config_of


@pytest.mark.soak
@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("side", [112, 333, 1048])
@pytest.mark.parametrize(("batch", "images"), [(1, 1), (2, 2), (2, 3)])
def test_every_combination_trains(
    tmp_path: Path, architecture: Architecture, side: int, batch: int, images: int
) -> None:
    place = Place(tmp_path)
    make_dataset(place.workspace, "grid", count=images, size=(640, 480), parts=("train", "val"))
    config = config_of(
        model={"architecture": architecture, "encoder": "resnet34"},
        dataset={"name": "grid"},
        training={"epochs": 1, "batchSize": batch, "imageSize": side},
    )
    assert place.train(config) == 0, place.message()
    assert place.history()[0].train.samples == images
