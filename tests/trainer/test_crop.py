"""Crop mode, 16 bits and serialized augmentation, trained for real."""

from __future__ import annotations

import json
import logging
from typing import Any

import albumentations
import numpy as np
import pytest
import torch

from kubeseg_types.exit_codes import ExitCode
from tests.support.datasets import make_dataset, make_pair, write_pair
from tests.support.trainings import Place, at_beat, config_of, terminate

CROP: dict[str, Any] = {
    "dataset": {"name": "large", "testSize": 0.34},
    "training": {"imageMode": "Crop", "batchSize": 3},
}
SIZES = [(100, 70), (33, 90), (20, 24), (32, 32), (64, 50), (41, 57)]


@pytest.fixture
def large(place: Place) -> Place:
    """With the data set `large`: images of many sizes, some smaller than the crop."""
    for number, size in enumerate(SIZES * 2):
        image, mask = make_pair(size, number)
        write_pair(place.workspace / "datasets/large", f"{number:03d}", image, mask)
    return place


def _scores(place: Place) -> list[Any]:
    return [(entry.train, entry.validation) for entry in place.history()]


@pytest.mark.slow
def test_crop_mode_counts_each_validation_pixel_once_and_resumes_exactly(
    large: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubeseg_trainer.tasks.segmentation.task import SegmentationTask

    counted: list[int] = []
    pixels: list[int] = []
    real = SegmentationTask.part

    def part(self: Any, loss: float, counts: torch.Tensor, samples: int) -> Any:
        counted.append(int(counts.sum()))
        sizes = [self.validation.files.size(i) for i in range(len(self.validation))]
        pixels.append(sum(height * width for height, width in sizes))
        return real(self, loss, counts, samples)

    monkeypatch.setattr(SegmentationTask, "part", part)
    assert large.train(config_of("whole", **CROP)) == 0
    # Training and validation take turns.
    assert counted[1::2] == pixels[1::2]
    assert len(counted) == 4
    assert all(entry.validation.loss > 0 for entry in large.history("whole"))
    # The images are looked at and decoded already: this is in the first epoch.
    with at_beat(4, terminate):
        assert large.train(config_of(**CROP)) == ExitCode.INTERRUPTED
    monkeypatch.setattr("kubeseg_trainer.assembly.loader_workers", lambda *_: 2)
    assert large.train(config_of(attempt=2, **CROP)) == 0
    first = [(entry.train, entry.validation) for entry in large.history("whole")]
    assert _scores(large) == first


def test_without_a_cache_the_numbers_are_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config: dict[str, Any] = {"training": {"augmentation": {"preset": "Strong"}}}
    assert place.train(config_of("cached", **config)) == 0
    assert "decoded 9 images once" in caplog.text
    assert len(list(place.scratch.glob("decoded/*.cache"))) == 1
    monkeypatch.setattr("kubeseg_trainer.tasks.segmentation.data.cache.MAX_BYTES", 10)
    place.scratch = place.scratch.with_name("other")
    assert place.train(config_of(**config)) == 0
    assert "Images are decoded in each epoch" in caplog.text
    first = [(entry.train, entry.validation) for entry in place.history("cached")]
    assert _scores(place) == first


def test_a_serialized_augmentation_is_trained_with(place: Place) -> None:
    pipeline = albumentations.Compose(
        [albumentations.Rotate(p=1), albumentations.RandomGamma(p=0.5)]
    )
    text = json.dumps(albumentations.to_dict(pipeline))
    assert place.train(config_of(training={"augmentation": {"serialized": text}})) == 0


def test_a_serialized_augmentation_that_is_refused(place: Place) -> None:
    text = json.dumps(albumentations.to_dict(albumentations.Resize(4096, 4096)))
    config = config_of(training={"augmentation": {"serialized": text}})
    assert place.train(config) == ExitCode.CONFIGURATION
    assert "spec.training.augmentation.serialized" in place.message()["message"]
    assert "Resize is not taken" in place.message()["message"]
    assert not place.scratch.exists()


def test_16_bits_are_normalised_by_the_training_parts_statistics(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the check of a data set reports them: here it is told to."""
    from dataclasses import replace

    from kubeseg_trainer.tasks.segmentation.check import scan
    from kubeseg_trainer.tasks.segmentation.network import network

    real = scan.check_data_set

    def check(*arguments: Any, **more: Any) -> Any:
        checked = real(*arguments, **more)
        statistics = replace(checked.statistics, bits=16, mean=(0.2, 0.2, 0.2), std=(0.2, 0.2, 0.2))
        return replace(checked, statistics=statistics)

    seen: list[torch.Tensor] = []
    prepare = network.prepare

    def watched(images: torch.Tensor, *more: Any) -> torch.Tensor:
        values = prepare(images, *more)
        seen.append(images)
        seen.append(values)
        return values

    monkeypatch.setattr(scan, "check_data_set", check)
    monkeypatch.setattr("kubeseg_trainer.tasks.segmentation.task.prepare", watched)
    monkeypatch.setattr("kubeseg_trainer.assembly.loader_workers", lambda *_: 1)
    assert place.train(config_of(training={"epochs": 1})) == 0
    images, values = seen[:2]
    assert images.dtype == torch.uint16
    assert values.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(values, (images.float() / 65535 - 0.2) / 0.2, atol=1e-4)
    assert float(images.float().max()) > 255


def test_an_image_that_breaks_after_the_check(place: Place) -> None:
    """Found while decoding ahead: the same sentence and code as in an epoch."""
    folder = make_dataset(place.workspace, "breaks", count=4)

    def damage() -> None:
        np.savetxt(folder / "images/002.png", [0])

    with at_beat(4, damage):
        assert place.train(config_of(dataset={"name": "breaks"})) == ExitCode.DATASET
    assert "002.png can't be read" in place.message()["message"]
    assert list(place.scratch.glob("decoded/*")) == []
