"""Dice and IoU from summed confusion counts: everything is added up first, divided once."""

from __future__ import annotations

import torch
from torch import Tensor

from kubeseg_trainer.tasks.segmentation.images import VOID
from kubeseg_types.trainer import Part


def confusion(logits: Tensor, mask: Tensor) -> Tensor:
    """Counts, C × C int64: row the truth, column the prediction; VOID pixels are left out.

    `logits` N × C × H × W, `mask` N × H × W.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(dim=1)
    counted = mask != VOID
    cells = mask[counted].long() * classes + predicted[counted]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def _mean(scores: list[float | None]) -> float:
    known = [score for score in scores if score is not None]
    # No pixel that counts at all: there is nothing to be good at.
    return sum(known) / len(known) if known else 0.0


def part_of(loss: float, counts: Tensor, samples: int, ignore_index: int | None) -> Part:
    """Metrics of a part of the data from its summed loss and counts.

    A class that neither truth nor prediction holds has no value; the ignored one never has.
    """
    right = counts.diagonal().tolist()
    truth = counts.sum(dim=1).tolist()
    predicted = counts.sum(dim=0).tolist()
    dice: list[float | None] = []
    iou: list[float | None] = []
    for label, (hit, true, guessed) in enumerate(zip(right, truth, predicted, strict=True)):
        if true + guessed == 0 or label == ignore_index:
            dice.append(None)
            iou.append(None)
        else:
            dice.append(2 * hit / (true + guessed))
            iou.append(hit / (true + guessed - hit))
    return Part(
        loss=loss / samples,
        dice=_mean(dice),
        iou=_mean(iou),
        samples=samples,
        class_dice=dice,
        class_iou=iou,
    )
