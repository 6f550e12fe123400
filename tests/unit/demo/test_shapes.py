"""The demo's data set: the same everywhere, with every class in it, and told by no colour alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kubeseg_local.demo import shapes


def test_a_sample_is_a_function_of_seed_index_and_size() -> None:
    picture, labels = shapes.make_sample(7, 3, 64)
    again, labels_again = shapes.make_sample(7, 3, 64)
    assert picture.shape == (64, 64, 3)
    assert labels.shape == (64, 64)
    assert picture.dtype == labels.dtype == np.uint8
    assert np.array_equal(picture, again)
    assert np.array_equal(labels, labels_again)


@pytest.mark.parametrize(("seed", "index"), [(8, 3), (7, 4)])
def test_another_seed_or_index_gives_another_picture(seed: int, index: int) -> None:
    assert not np.array_equal(
        shapes.make_sample(7, 3, 64)[0], shapes.make_sample(seed, index, 64)[0]
    )


def test_all_classes_occur_and_most_is_background() -> None:
    counts = np.zeros(4, dtype=np.int64)
    for index in range(shapes.COUNT):
        mask = shapes.make_sample(shapes.SEED, index, 64)[1]
        counts += np.bincount(mask.ravel(), minlength=4)
    shares = counts / counts.sum()
    assert len(shares) == len(shapes.CLASSES) == 4
    assert 0.5 < shares[0] < 0.9
    assert all(share > 0.04 for share in shares[1:])


def test_the_mean_colour_of_a_pixel_does_not_tell_its_class() -> None:
    """The nearest mean colour, the best that colour alone can do simply, is right too seldom."""
    samples = [shapes.make_sample(shapes.SEED, index, 64) for index in range(40)]
    pixels = np.concatenate([picture.reshape(-1, 3) for picture, _ in samples]).astype(float)
    labels = np.concatenate([mask.ravel() for _, mask in samples])
    means = np.stack([pixels[labels == label].mean(axis=0) for label in range(4)])
    distance = ((pixels[:, None] - means) ** 2).sum(axis=2)
    found = distance.argmin(axis=1)
    ious = [
        ((found == label) & (labels == label)).sum() / ((found == label) | (labels == label)).sum()
        for label in range(4)
    ]
    assert np.mean(ious) < 0.4


def test_the_held_back_picture_shows_every_class_and_is_in_no_data_set() -> None:
    _, labels = shapes.make_sample(shapes.SEED, shapes.HELD_BACK)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert shapes.HELD_BACK > shapes.COUNT


def test_what_is_written_can_be_read_as_labels(tmp_path: Path) -> None:
    shapes.write_dataset(tmp_path, count=3)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        f"shape-00{index}.png" for index in range(3)
    ]
    mask = Image.open(tmp_path / "masks" / "shape-001.png")
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), shapes.make_sample(shapes.SEED, 1)[1])
