"""Crop mode: which square of a picture a key stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubeseg_trainer.tasks.segmentation.data.images import VOID, Pixels

#: Sets these draws apart from those of the augmentation, which has the same key.
_STREAM = 1


def random_crop(
    image: NDArray[Any], mask: Pixels, side: int, *, seed: int, epoch: int, index: int
) -> tuple[NDArray[Any], Pixels]:
    """A square of `side` pixels of image (H × W × C) and mask (H × W), at a place that depends on
    (seed, epoch, index) alone.

    A picture that is smaller gets a border: its outermost pixels again, VOID in the mask.
    """
    generator = np.random.default_rng([seed, epoch, index, _STREAM])
    top, left = (int(generator.integers(max(0, length - side) + 1)) for length in image.shape[:2])
    image = image[top : top + side, left : left + side]
    mask = mask[top : top + side, left : left + side]
    height, width = mask.shape
    if (height, width) == (side, side):
        return image, mask
    border = [
        ((side - length) // 2, side - length - (side - length) // 2) for length in (height, width)
    ]
    return (
        np.pad(image, [*border, (0, 0)], mode="edge"),
        np.pad(mask, border, constant_values=VOID),
    )
