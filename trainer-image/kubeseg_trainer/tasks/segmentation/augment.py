"""Augmentation: the presets, and the one place that knows albumentations."""

from __future__ import annotations

import os
import random
from typing import Any, Literal

import numpy as np

from kubeseg_trainer.tasks.segmentation.images import VOID, Pixels

# Before the import: it would ask the package index for a newer version, which takes seconds.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations

Preset = Literal["None", "Light", "Medium", "Strong"]


def _shift(scale: tuple[float, float], rotate: tuple[float, float]) -> Any:
    # What comes in from outside the picture is neither trained on nor counted.
    return albumentations.Affine(
        translate_percent=(-0.0625, 0.0625), scale=scale, rotate=rotate, fill_mask=VOID, p=0.5
    )


def transforms_of(preset: Preset) -> list[Any]:
    """The transforms of a preset."""
    a = albumentations
    flip = a.HorizontalFlip(p=0.5)
    match preset:
        case "None":
            return []
        case "Light":
            return [flip, _shift((1.0, 1.0), (0.0, 0.0))]
        case "Medium":
            return [flip, _shift((0.9, 1.1), (-10.0, 10.0)), a.RandomBrightnessContrast(p=0.5)]
        case "Strong":
            return [
                flip,
                _shift((0.8, 1.25), (-20.0, 20.0)),
                a.RandomBrightnessContrast(p=0.5),
                a.OneOf([a.GaussianBlur(p=1.0), a.GaussNoise(std_range=(0.02, 0.1), p=1.0)], p=0.3),
                a.GridDistortion(fill_mask=VOID, p=0.2),
            ]


class Augmentation:
    """A preset whose outcome depends on (seed, epoch, sample) alone."""

    def __init__(self, preset: Preset, *, seed: int) -> None:
        transforms = transforms_of(preset)
        self._compose = albumentations.Compose(transforms) if transforms else None
        self._seed = seed

    def __call__(
        self, image: Pixels, mask: Pixels, *, epoch: int, index: int
    ) -> tuple[Pixels, Pixels]:
        """Image and mask of the sample `index` as `epoch` sees them."""
        if self._compose is None:
            return image, mask
        # One stream for all transforms: a seed for each would make them fire together.
        generator = np.random.default_rng([self._seed, epoch, index])
        second = random.Random(int(generator.integers(2**63)))  # noqa: S311 - no secret
        self._compose.set_random_state(generator, second)
        result = self._compose(image=image, mask=mask)
        return result["image"], result["mask"]
