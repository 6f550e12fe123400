"""Segmentation, as the engine sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kubeseg_trainer.engine.exporting import ExportRequest
from kubeseg_trainer.engine.task import Batch
from kubeseg_trainer.tasks.segmentation.check.scan import Checked
from kubeseg_trainer.tasks.segmentation.data.augment import Augmentation, tried_transforms
from kubeseg_trainer.tasks.segmentation.data.cache import Progress, cache_folder, open_cache
from kubeseg_trainer.tasks.segmentation.data.class_weights import weights_for
from kubeseg_trainer.tasks.segmentation.data.colours import colour_table
from kubeseg_trainer.tasks.segmentation.data.images import VOID, Pixels
from kubeseg_trainer.tasks.segmentation.data.normalisation import choose_normalisation
from kubeseg_trainer.tasks.segmentation.data.samples import ImageSamples
from kubeseg_trainer.tasks.segmentation.metrics import confusion, part_of
from kubeseg_trainer.tasks.segmentation.network.batches_of_one import make_batches_of_one_honest
from kubeseg_trainer.tasks.segmentation.network.losses import SegmentationLoss
from kubeseg_trainer.tasks.segmentation.network.network import (
    Scaling,
    build_network,
    crop,
    padded_side,
    prepare,
)
from kubeseg_trainer.tasks.segmentation.network.preprocessing import preprocessing_of
from kubeseg_trainer.tasks.segmentation.network.windows import SlidingWindow
from kubeseg_trainer.tasks.segmentation.output.export import (
    CHECKED_IMAGES,
    DataFacts,
    export_model,
    weights_metadata,
)
from kubeseg_trainer.tasks.segmentation.output.model_info import info_of
from kubeseg_trainer.tasks.segmentation.output.pictures import Gallery
from kubeseg_types.trainer import Part, TrainerConfig


class SegmentationTask:
    """Images and masks, an smp network, a loss, and confusion counts."""

    def __init__(self, config: TrainerConfig, checked: Checked, device: torch.device) -> None:
        training = config.training
        self._config = config
        self._checked = checked
        self._device = device
        self.class_names = checked.class_names
        self.fingerprint, self.content = checked.order, checked.fingerprint
        torch.manual_seed(training.seed)
        network = build_network(config.model, len(self.class_names), training.image_size)
        self._image_side = training.image_size
        self._side = padded_side(config.model, training.image_size)
        make_batches_of_one_honest(network)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._loss = SegmentationLoss(
            training.loss, weights_for(training.loss, checked.statistics.class_pixels)
        )
        channels, statistics = checked.decoding.channels, checked.statistics
        self.normalisation = choose_normalisation(
            channels,
            statistics.bits,
            statistics.mean,
            statistics.std,
            expected=preprocessing_of(config.model),
        )
        self._scaling = Scaling(self.normalisation, device)
        transforms = tried_transforms(training, channels, statistics.bits)
        # A training batch fits with all that its gradients need; so few windows do without.
        at_once = min(4, max(1, training.batch_size // training.accumulate))
        self._windows = SlidingWindow(self._image_side, training.window_overlap, at_once)
        samples = partial(
            ImageSamples,
            side=self._image_side,
            decoding=checked.decoding,
            bits=statistics.bits,
            crop=training.image_mode == "Crop",
            seed=training.seed,
        )
        self.train = samples(
            checked.parts.train, augmentation=Augmentation(transforms, seed=training.seed)
        )
        self.validation = samples(checked.parts.validation, augmentation=None)
        # Read from its files: a cache would be made for a single pass.
        self.test = None
        if checked.parts.test:
            self.test = samples(checked.parts.test, augmentation=None)
        self._gallery = Gallery(
            colour_table(config.dataset.classes, len(self.class_names)),
            self.class_names,
            seed=training.seed,
        )

    def decode_ahead(
        self, scratch: Path | None, *, progress: Progress, check: Callable[[], None]
    ) -> None:
        """Let both parts come from the node's decoded cache, made first where it isn't there.

        `progress(text, done, total)` and `check()` may raise to break it off.
        """
        folder = cache_folder(scratch)
        if folder is None:
            return
        first = self.train.files
        files = replace(first, pairs=[*first.pairs, *self.validation.files.pairs])
        key = files.key(self.content)
        cache = open_cache(folder, files, key, progress=progress, check=check)
        if cache is not None:
            self.train.use(cache, first=0)
            self.validation.use(cache, first=len(self.train))

    def new_counts(self) -> Tensor:
        """An empty confusion matrix, C × C."""
        count = len(self.class_names)
        return torch.zeros(count, count, dtype=torch.int64, device=self._device)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss and confusion counts of a batch."""
        images = batch["image"].to(self._device, non_blocking=True)
        if max(images.shape[2:]) <= self._image_side:
            return self._judge(self._forward(images), batch["mask"])
        # A picture of its own size (Crop mode, validation): each of its pixels counts once.
        loss, counts, seen = torch.zeros((), device=self._device), self.new_counts(), 0
        for top, logits in self._windows.bands(self._forward, images):
            mask = batch["mask"][:, top : top + logits.shape[2]]
            # Counted on the CPU, where the mask still is: asking the device would wait for it.
            pixels = int((mask != VOID).sum())
            band_loss, band_counts = self._judge(logits, mask)
            loss, counts, seen = loss + band_loss * pixels, counts + band_counts, seen + pixels
        return loss / max(1, seen), counts

    def _forward(self, images: Tensor) -> Tensor:
        """Logits (N × classes × H × W) of images (N × C × H × W) of at most `imageSize` pixels."""
        return crop(self.network(prepare(images, self._side, self._scaling)), *images.shape[2:])

    def _judge(self, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and counts of logits against a mask (N × H × W, uint8)."""
        truth = mask.to(self._device, non_blocking=True).long()
        # Softmax and sums over many pixels want full precision.
        with torch.autocast(self._device.type, enabled=False):
            logits = logits.float()
            loss = self._loss(logits, truth)
        with torch.no_grad():
            counts = confusion(logits, truth)
        return loss, counts

    def draw(self, count: int, epoch: int) -> dict[str, bytes]:
        """Pictures of `count` validation samples, one forward pass each."""

        def predict(image: Tensor) -> Pixels:
            images = image[None].to(self._device)
            if max(images.shape[2:]) <= self._image_side:
                labels = self._forward(images).argmax(dim=1)[0]
            else:
                bands = self._windows.bands(self._forward, images)
                labels = torch.cat([logits.argmax(dim=1)[0] for _, logits in bands])
            return np.asarray(labels.to(torch.uint8).cpu())

        return self._gallery.draw(self.validation, count, predict, f"epoch {epoch}")

    def part(self, loss: float, counts: Tensor, samples: int) -> Part:
        """Metrics of summed counts."""
        return part_of(loss, counts, samples, self._config.dataset.ignore_index)

    def metadata(self, epoch: int) -> dict[str, str]:
        """What a weights file says about itself."""
        training = self._config.training
        return weights_metadata(
            self._config.model,
            self._config.dataset,
            self.class_names,
            epoch=epoch,
            image_size=training.image_size,
            image_mode=training.image_mode,
            window_overlap=training.window_overlap,
            normalisation=self.normalisation,
            bits=self._checked.statistics.bits,
        )

    def export(self, folder: Path, request: ExportRequest) -> dict[str, Any]:
        """Fill `folder` with the model of the best epoch; the report for run.json."""
        parts, files = self._checked.parts, self.validation.files
        return export_model(
            folder,
            request,
            config=self._config,
            info=info_of(self.metadata(request.best.epoch)),
            data=DataFacts(
                images=[files.read(index)[0] for index in range(min(CHECKED_IMAGES, len(files)))],
                counts={
                    "training": len(parts.train),
                    "validation": len(parts.validation),
                    "test": len(parts.test),
                },
                class_pixels=self._checked.statistics.class_pixels,
            ),
        )
