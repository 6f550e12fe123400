from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kubeseg_trainer.engine.task import SampleKey
from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.tasks.segmentation.data.augment import Augmentation, Preset, transforms_of
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.formats.folders import find_parts
from kubeseg_trainer.tasks.segmentation.data.images import VOID, UnreadableError, read_image, resize
from kubeseg_trainer.tasks.segmentation.data.masks import read_labels, read_mask
from kubeseg_trainer.tasks.segmentation.data.reading import Decoding
from kubeseg_trainer.tasks.segmentation.data.samples import ImageSamples
from kubeseg_trainer.tasks.segmentation.data.split import split_stems
from kubeseg_types.spec import Dataset
from tests.support.datasets import make_dataset, make_pair


def test_added_images_move_none_of_the_others() -> None:
    few = [f"image-{n}" for n in range(40)]
    many = few + [f"later-{n}" for n in range(60)]
    train, validation = split_stems(few, test_size=0.25, seed=1)
    more_train, more_validation = split_stems(many, test_size=0.25, seed=1)
    assert set(train) <= set(more_train)
    assert set(validation) <= set(more_validation)
    assert set(train) | set(validation) == set(few)
    assert split_stems(few, test_size=0.25, seed=2) != (train, validation)
    assert 0.1 < len(more_validation) / 100 < 0.4


@pytest.mark.parametrize("size", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_each_part_has_one_image_at_least(size: float, seed: int) -> None:
    train, validation = split_stems(["a", "b"], test_size=size, seed=seed)
    assert len(train) == len(validation) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images(count: int) -> None:
    with pytest.raises(DatasetError, match="at least 2 are needed"):
        split_stems(["a"][:count], test_size=0.5, seed=0)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_masks_of_these_modes_are_labels(tmp_path: Path, mode: str) -> None:
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    image = Image.fromarray(labels * 255).convert("1") if mode == "1" else Image.fromarray(labels)
    if mode == "P":
        # Colours that say nothing about the labels: the indices count.
        image.putpalette([200, 10, 10, 10, 200, 10] + [0] * 762)
    if mode == "I;16":
        image = Image.fromarray(labels.astype(np.uint16))
    image.save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == mode
    assert read_labels(tmp_path / "mask.png").tolist() == labels.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_of_these_modes_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "mask.png")
    with pytest.raises(UnreadableError, match="save it with one channel"):
        read_labels(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_any_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (4, 3), (200, 100, 50)).convert(mode).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png")
    assert image.shape == (3, 4, 3)
    assert image.dtype == np.uint8
    if mode in {"RGB", "RGBA"}:
        assert image[0, 0].tolist() == [200, 100, 50]


def test_an_orientation_tag_is_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "image.jpg", exif=exif)
    assert read_image(tmp_path / "image.jpg").shape == (30, 40, 3)


@pytest.mark.parametrize("ignore", [9, 255, None])
def test_the_ignored_label_becomes_void(tmp_path: Path, ignore: int | None) -> None:
    value = 9 if ignore is None else ignore
    Image.fromarray(np.array([[0, value]], np.uint8)).save(tmp_path / "mask.png")
    expected = 9 if ignore is None else VOID
    assert read_mask(tmp_path / "mask.png", ignore).tolist() == [[0, expected]]


def test_resizing_invents_no_label() -> None:
    image, mask = make_pair((70, 50), 1)
    mask[mask == 1] = VOID
    _, small = resize(image, mask, 32)
    assert set(np.unique(small)) <= set(np.unique(mask))
    assert small.shape == (32, 32)


@pytest.mark.parametrize("preset", ["None", "Light", "Medium", "Strong"])
def test_an_augmentation_is_a_function_of_its_key(preset: Preset) -> None:
    image, mask = make_pair((32, 32), 3)
    first, second = (Augmentation(transforms_of(preset), seed=5) for _ in range(2))
    first(image, mask, epoch=1, index=0)  # what came before must not matter
    outcomes = []
    for index in range(12):
        one = first(image, mask, epoch=2, index=index)
        two = second(image, mask, epoch=2, index=index)
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        assert one[0].shape == image.shape
        assert one[0].dtype == np.uint8
        assert set(np.unique(one[1])) <= {*np.unique(mask), VOID}
        outcomes.append(one[0].tobytes())
    assert (len(set(outcomes)) > 1) == (preset != "None")


def test_transforms_do_not_fire_together() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :8] = 200
    mask = np.zeros((32, 32), np.uint8)
    augmentation = Augmentation(transforms_of("Light"), seed=0)
    flipped, shifted = [], []
    for index in range(200):
        out, labels = augmentation(image, mask, epoch=1, index=index)
        flipped.append(bool(out[:, 20:].any()))
        shifted.append(bool((labels == VOID).any()))
    assert abs(float(np.corrcoef(flipped, shifted)[0, 1])) < 0.3


def test_a_sample_is_what_its_key_says(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=3)
    pairs = [Pair(s, folder / f"images/{s}.png", folder / f"masks/{s}.png") for s in ("000", "001")]
    samples = ImageSamples(
        pairs,
        side=32,
        decoding=Decoding(),
        augmentation=Augmentation(transforms_of("Strong"), seed=1),
    )
    sample = samples[SampleKey(1, 1)]
    assert (sample["image"].shape, sample["mask"].shape) == ((3, 32, 32), (32, 32))
    again = samples[SampleKey(1, 1)]
    assert bool((sample["image"] == again["image"]).all())
    assert not bool((sample["image"] == samples[SampleKey(2, 1)]["image"]).all())


def test_a_split_of_the_data_sets_own_counts(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=2, parts=("train", "val", "extra"))
    parts = find_parts(folder, Dataset(name="discs"), seed=0)
    assert {pair.image.parent.parent.name for pair in parts.train} == {"train"}
    assert {pair.image.parent.parent.name for pair in parts.validation} == {"val"}
    named = Dataset.model_validate({"name": "discs", "splits": {"train": "extra"}})
    assert find_parts(folder, named, seed=0).train[0].image.parent.parent.name == "extra"
    same = Dataset.model_validate({"name": "discs", "splits": {"train": "val"}})
    with pytest.raises(ConfigurationError, match="a folder of its own"):
        find_parts(folder, same, seed=0)
    missing = Dataset.model_validate({"name": "discs", "splits": {"train": "nope"}})
    with pytest.raises(DatasetError, match="no folder nope/"):
        find_parts(folder, missing, seed=0)


@pytest.mark.parametrize(
    ("folders", "counts"),
    [
        (("train", "val", "test"), (5, 5, 5)),
        (("train", "valid"), (5, 5, 0)),
        (("train", "test"), None),
    ],
)
def test_folders_for_the_parts(
    tmp_path: Path, folders: tuple[str, ...], counts: tuple[int, int, int] | None
) -> None:
    folder = make_dataset(tmp_path, count=5, parts=folders)
    parts = find_parts(folder, Dataset(name="discs"), seed=0)
    found = (len(parts.train), len(parts.validation), len(parts.test))
    if counts is not None:
        assert found == counts
    else:
        # No folder for validation: a part of train/ is held back, and test/ stays what it is.
        assert found[0] + found[1] == 5
        assert min(found) >= 1
        assert found[2] == 5
