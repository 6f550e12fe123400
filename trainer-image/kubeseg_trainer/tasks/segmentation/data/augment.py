"""Augmentation: the presets, and what makes it a function of its key."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.data.images import VOID, Pixels
from kubeseg_trainer.tasks.segmentation.data.serialized import parse, try_out
from kubeseg_types import training

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


def transforms_for(wanted: training.Augmentation, side: int) -> list[Any]:
    """The transforms that the spec asks for, for pictures of `side` pixels: `serialized` where it
    is given, else the preset. ConfigurationError where `serialized` goes beyond what is taken.
    """
    if wanted.serialized is not None:
        return parse(wanted.serialized, side)
    return transforms_of(wanted.preset)


def tried_transforms(wanted: training.Training, channels: int, bits: int) -> list[Any]:
    """The transforms that the spec asks for, those that are `serialized` each tried on such a
    picture. ConfigurationError where one can't take it.
    """
    side = wanted.image_size
    transforms = transforms_for(wanted.augmentation, side)
    if wanted.augmentation.serialized is not None:
        try_out(transforms, side=side, channels=channels, bits=bits)
    return transforms


class Augmentation:
    """Transforms whose outcome depends on (seed, epoch, sample) alone.

    Images of 16 bits go through them as float32, 0 to 1, which most of albumentations takes.
    """

    def __init__(self, transforms: Sequence[Any], *, seed: int) -> None:
        self._compose = albumentations.Compose(list(transforms)) if transforms else None
        self._seed = seed

    def __call__(
        self, image: NDArray[Any], mask: Pixels, *, epoch: int, index: int
    ) -> tuple[NDArray[Any], Pixels]:
        """Image and mask of the sample `index` as `epoch` sees them.

        ConfigurationError where a transform fails, or gives another size.
        """
        if self._compose is None:
            return image, mask
        # One stream for all transforms: a seed for each would make them fire together.
        generator = np.random.default_rng([self._seed, epoch, index])
        second = random.Random(int(generator.integers(2**63)))  # noqa: S311 - no secret
        self._compose.set_random_state(generator, second)
        wide = image.dtype == np.uint16
        pixels = image.astype(np.float32) / 65535 if wide else image
        try:
            result = self._compose(image=pixels, mask=mask)
        except Exception as error:  # whatever the library or OpenCV raises
            raise ConfigurationError(
                f"spec.training.augmentation: it fails on an image of {image.shape} "
                f"{image.dtype}: {error}"
            ) from error
        pixels, mask = result["image"], result["mask"]
        if pixels.shape != image.shape:
            raise ConfigurationError(
                f"spec.training.augmentation: it makes {pixels.shape} of {image.shape}: use "
                f"transforms that keep the size"
            )
        if wide:
            pixels = np.rint(np.clip(pixels, 0, 1) * 65535).astype(np.uint16)
        return pixels, mask
