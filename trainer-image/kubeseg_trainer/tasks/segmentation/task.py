"""Segmentation, as the engine sees it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kubeseg_trainer.engine.task import Batch
from kubeseg_trainer.tasks.segmentation.augment import Augmentation
from kubeseg_trainer.tasks.segmentation.export import export_model, weights_metadata
from kubeseg_trainer.tasks.segmentation.images import VOID
from kubeseg_trainer.tasks.segmentation.losses import SegmentationLoss
from kubeseg_trainer.tasks.segmentation.metrics import confusion, part_of
from kubeseg_trainer.tasks.segmentation.network import (
    build_network,
    crop,
    make_batches_of_one_honest,
    padded_side,
    prepare,
)
from kubeseg_trainer.tasks.segmentation.samples import ImageSamples
from kubeseg_trainer.tasks.segmentation.scan import Checked
from kubeseg_types.trainer import EpochRecord, Part, TrainerConfig


class SegmentationTask:
    """Images and masks, an smp network, a loss, and confusion counts."""

    def __init__(self, config: TrainerConfig, checked: Checked, device: torch.device) -> None:
        training, ignore = config.training, config.dataset.ignore_index
        self._config = config
        self._device = device
        self.class_names = checked.class_names
        self.fingerprint = checked.fingerprint
        torch.manual_seed(training.seed)
        network = build_network(config.model, len(self.class_names))
        self._side = padded_side(network, training.image_size, config.model)
        make_batches_of_one_honest(network)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._loss = SegmentationLoss(training.loss)
        self.train = ImageSamples(
            checked.parts.train,
            side=training.image_size,
            ignore_index=ignore,
            augmentation=Augmentation(training.augmentation.preset, seed=training.seed),
        )
        self.validation = ImageSamples(
            checked.parts.validation,
            side=training.image_size,
            ignore_index=ignore,
            augmentation=None,
        )

    def new_counts(self) -> Tensor:
        """An empty confusion matrix, C × C."""
        count = len(self.class_names)
        return torch.zeros(count, count, dtype=torch.int64, device=self._device)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss and confusion counts of a batch."""
        # Asked on the CPU, where the batch still is: asking the device would wait for it.
        any_counts = bool((batch["mask"] != VOID).any())
        mask = batch["mask"].to(self._device, non_blocking=True).long()
        images = batch["image"].to(self._device, non_blocking=True)
        height, width = images.shape[2:]
        logits = crop(self.network(prepare(images, self._side)), height, width)
        # Softmax and sums over many pixels want full precision.
        with torch.autocast(self._device.type, enabled=False):
            logits = logits.float()
            loss = self._loss(logits, mask, any_counts=any_counts)
        with torch.no_grad():
            counts = confusion(logits, mask)
        return loss, counts

    def part(self, loss: float, counts: Tensor, samples: int) -> Part:
        """Metrics of summed counts."""
        return part_of(loss, counts, samples, self._config.dataset.ignore_index)

    def metadata(self, epoch: int) -> dict[str, str]:
        """What a weights file says about itself."""
        return weights_metadata(
            self._config.model,
            self.class_names,
            epoch=epoch,
            image_size=self._config.training.image_size,
        )

    def export(self, folder: Path, weights: Path, best: EpochRecord) -> None:
        """Fill `folder` with the model of the epoch `best`, whose weights lie at `weights`."""
        export_model(
            folder,
            weights,
            config=self._config,
            class_names=self.class_names,
            best=best,
            padded=self._side,
        )
