"""Every combination that the contract allows trains: a covering part of the grid, one step each.

The whole grid is tests/soak/test_grid.py.
"""

from __future__ import annotations

import pytest

from kubeseg_types.spec import Architecture
from tests.support.datasets import make_dataset
from tests.support.trainings import Place, config_of


def train_once(
    place: Place, *, architecture: str, encoder: str, side: int, batch: int, images: int
) -> None:
    """One epoch over `images` images of a size of their own, and what has to come of it."""
    make_dataset(place.workspace, "grid", count=images, size=(70, 50), parts=("train", "val"))
    config = config_of(
        model={"architecture": architecture, "encoder": encoder},
        dataset={"name": "grid"},
        training={"epochs": 1, "batchSize": batch, "imageSize": side},
    )
    assert place.train(config) == 0, place.message()
    (entry,) = place.history()
    assert entry.train.samples == entry.validation.samples == images
    assert entry.step == -(-images // batch)


@pytest.mark.parametrize("architecture", list(Architecture))
def test_each_architecture_at_112_with_a_last_batch_of_one(
    place: Place, architecture: Architecture
) -> None:
    train_once(
        place, architecture=architecture, encoder="tu-test_resnet", side=112, batch=2, images=3
    )


@pytest.mark.parametrize("architecture", list(Architecture))
def test_each_architecture_at_333_with_batches_of_one(
    place: Place, architecture: Architecture
) -> None:
    train_once(
        place, architecture=architecture, encoder="tu-test_resnet", side=333, batch=1, images=1
    )


def test_the_largest_size(place: Place) -> None:
    """Of one: all twelve take minutes, in tests/soak/test_grid.py."""
    train_once(place, architecture="Unet", encoder="tu-test_resnet", side=1048, batch=1, images=1)


@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_smallest_size_with_batches_of_one(place: Place, architecture: Architecture) -> None:
    train_once(
        place, architecture=architecture, encoder="tu-test_resnet", side=32, batch=1, images=2
    )
