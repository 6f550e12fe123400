"""Samples for the loader: decoded, cropped, augmented; normalised later, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kubeseg_trainer.engine.task import SampleKey
from kubeseg_trainer.tasks.segmentation.data.augment import Augmentation
from kubeseg_trainer.tasks.segmentation.data.crops import random_crop
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.reading import Decoding
from kubeseg_trainer.tasks.segmentation.data.sources import Decoded, Files


class ImageSamples:
    """One part of a data set: `image` (C × H × W, uint8 or uint16, its channels side by side in
    memory) and `mask` (H × W, uint8, VOID 255).

    Squares of `side` pixels, resized; with `crop`: of the picture's own size, and random squares
    of it where there is an epoch.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        side: int,
        decoding: Decoding,
        augmentation: Augmentation | None,
        bits: int = 8,
        crop: bool = False,
        seed: int = 0,
    ) -> None:
        self._side = side
        self._crop = crop
        self._seed = seed
        self._augmentation = augmentation
        self.files = Files(pairs, decoding, None if crop else side, bits)
        self._cache: Decoded | None = None
        self._first = 0

    def use(self, cache: Decoded, *, first: int) -> None:
        """Take the arrays from `cache`, in which this part begins at `first`."""
        self._cache, self._first = cache, first

    @property
    def names(self) -> Sequence[str]:
        """File names of the images."""
        return [pair.image.name for pair in self.files.pairs]

    @property
    def alike(self) -> bool:
        """Whether all have one shape without an epoch, too, and so fit into one batch."""
        return not self._crop

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: SampleKey) -> dict[str, torch.Tensor]:
        if self._cache is not None:
            image, mask = self._cache.read(self._first + key.sample)
        else:
            image, mask = self.files.read(key.sample)
        if key.epoch is not None and self._crop:
            image, mask = random_crop(
                image, mask, self._side, seed=self._seed, epoch=key.epoch, index=key.sample
            )
        if self._cache is not None:
            # The cache's memory is not to be written to, by an augmentation for instance.
            image, mask = image.copy(), mask.copy()
        if key.epoch is not None and self._augmentation is not None:
            image, mask = self._augmentation(image, mask, epoch=key.epoch, index=key.sample)
        planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return {"image": planes, "mask": torch.from_numpy(np.ascontiguousarray(mask))}
