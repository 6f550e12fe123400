"""Samples for the loader: decoded, resized, augmented; normalised later, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kubeseg_trainer.engine.task import SampleKey
from kubeseg_trainer.tasks.segmentation.augment import Augmentation
from kubeseg_trainer.tasks.segmentation.dataset import Pair
from kubeseg_trainer.tasks.segmentation.images import read_image, read_mask, resize


class ImageSamples:
    """One part of a data set: `image` (3 × S × S, uint8) and `mask` (S × S, uint8, VOID 255)."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        side: int,
        ignore_index: int | None,
        augmentation: Augmentation | None,
    ) -> None:
        self._pairs = pairs
        self._side = side
        self._ignore_index = ignore_index
        self._augmentation = augmentation

    @property
    def names(self) -> Sequence[str]:
        """File names of the images."""
        return [pair.image.name for pair in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        pair = self._pairs[key.sample]
        image = read_image(pair.image)
        mask = read_mask(pair.mask, self._ignore_index)
        image, mask = resize(image, mask, self._side)
        if self._augmentation is not None and key.epoch is not None:
            image, mask = self._augmentation(image, mask, epoch=key.epoch, index=key.sample)
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        return {
            "image": torch.from_numpy(planes),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
        }
