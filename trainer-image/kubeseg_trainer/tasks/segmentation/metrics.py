"""Dice, IoU, precision and recall from summed confusion counts: all is added up, then divided once.

With hits (true positives) T, pixels of the class in the truth A and in the prediction B:

    Dice 2T / (A + B)    IoU T / (A + B - T)    precision T / B    recall T / A

A class in neither truth nor prediction (A + B = 0) has no value, and the means leave it out, as
torchmetrics' macro average does. A class that occurs in one of the two has all four values:
precision is 0 where it was never predicted, recall is 0 where there was none to find
(scikit-learn's `zero_division=0`). So all means run over the same classes, and Dice is the
harmonic mean of precision and recall throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_types.trainer import Part

Scores = list[float | None]


def confusion(logits: Tensor, mask: Tensor) -> Tensor:
    """Counts, C × C int64: row the truth, column the prediction; VOID pixels are left out.

    `logits` N × C × H × W, `mask` N × H × W.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(dim=1)
    counted = mask != VOID
    cells = mask[counted].long() * classes + predicted[counted]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


@dataclass
class _ClassScores:
    """Values of each class, None where it has none."""

    dice: Scores = field(default_factory=list)
    iou: Scores = field(default_factory=list)
    precision: Scores = field(default_factory=list)
    recall: Scores = field(default_factory=list)

    def add(self, hit: int, truth: int, predicted: int) -> None:
        self.dice.append(2 * hit / (truth + predicted))
        self.iou.append(hit / (truth + predicted - hit))
        self.precision.append(hit / predicted if predicted else 0.0)
        self.recall.append(hit / truth if truth else 0.0)

    def leave_out(self) -> None:
        for scores in (self.dice, self.iou, self.precision, self.recall):
            scores.append(None)


def _mean(scores: Scores) -> float:
    known = [score for score in scores if score is not None]
    # No pixel that counts at all: there is nothing to be good at.
    return sum(known) / len(known) if known else 0.0


def part_of(loss: float, counts: Tensor, samples: int, ignore_index: int | None) -> Part:
    """Metrics of a part of the data from its summed loss and counts (C × C, row the truth).

    The ignored class never has a value.
    """
    hits = counts.diagonal().tolist()
    truths = counts.sum(dim=1).tolist()
    predictions = counts.sum(dim=0).tolist()
    scores = _ClassScores()
    for label, (hit, truth, predicted) in enumerate(zip(hits, truths, predictions, strict=True)):
        if truth + predicted == 0 or label == ignore_index:
            scores.leave_out()
        else:
            scores.add(hit, truth, predicted)
    return Part(
        loss=loss / samples,
        dice=_mean(scores.dice),
        iou=_mean(scores.iou),
        precision=_mean(scores.precision),
        recall=_mean(scores.recall),
        samples=samples,
        class_dice=scores.dice,
        class_iou=scores.iou,
        class_precision=scores.precision,
        class_recall=scores.recall,
    )
