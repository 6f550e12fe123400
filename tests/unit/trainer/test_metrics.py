"""Metrics from confusion counts: by hand, and beside smp's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.metrics import confusion, part_of

Row = tuple[float | None, float | None, float | None, float | None]


@pytest.mark.parametrize(
    ("counts", "ignored", "rows"),
    [
        # (dice, iou, precision, recall) of each class.
        ([[3, 1], [2, 4]], None, [(6 / 9, 3 / 6, 3 / 5, 3 / 4), (8 / 11, 4 / 7, 4 / 5, 4 / 6)]),
        # Class 1 is there, but never predicted.
        ([[3, 0], [2, 0]], None, [(6 / 8, 3 / 5, 3 / 5, 1.0), (0.0, 0.0, 0.0, 0.0)]),
        # Class 1 is predicted, but not there.
        ([[3, 1], [0, 0]], None, [(6 / 7, 3 / 4, 1.0, 3 / 4), (0.0, 0.0, 0.0, 0.0)]),
        # Class 1 is in neither.
        ([[3, 0], [0, 0]], None, [(1.0, 1.0, 1.0, 1.0), (None, None, None, None)]),
        # The ignored class is predicted: an error of the other, but no class.
        ([[3, 1], [0, 0]], 1, [(6 / 7, 3 / 4, 1.0, 3 / 4), (None, None, None, None)]),
        # No pixel counts.
        ([[0, 0], [0, 0]], None, [(None,) * 4, (None,) * 4]),
    ],
)
def test_each_class_and_the_mean_over_those_that_occur(
    counts: list[list[int]], ignored: int | None, rows: list[Row]
) -> None:
    part = part_of(6.0, torch.tensor(counts), 3, ignored)
    assert (part.loss, part.samples) == (2.0, 3)
    columns = (part.class_dice, part.class_iou, part.class_precision, part.class_recall)
    means = (part.dice, part.iou, part.precision, part.recall)
    for column, mean, wanted in zip(columns, means, zip(*rows, strict=True), strict=True):
        assert column == [None if w is None else pytest.approx(w) for w in wanted]
        known = [w for w in wanted if w is not None]
        assert mean == pytest.approx(sum(known) / len(known) if known else 0.0)


def test_the_same_as_smp_says_pixel_by_pixel() -> None:
    random = np.random.default_rng(5)
    mask = torch.from_numpy(random.integers(0, 4, (3, 16, 16)))
    mask[:, :4] = VOID
    logits = torch.from_numpy(random.normal(size=(3, 5, 16, 16)))
    part = part_of(1.0, confusion(logits, mask), 3, None)

    counted = mask != VOID
    predicted = logits.argmax(dim=1)[counted][None]
    stats = smp.metrics.get_stats(predicted, mask[counted][None], mode="multiclass", num_classes=5)
    for name, ours in (
        ("f1_score", part.class_dice),
        ("iou_score", part.class_iou),
        ("precision", part.class_precision),
        ("recall", part.class_recall),
    ):
        # Class 4 is predicted only: smp's word for "nothing to find" is zero_division.
        theirs = getattr(smp.metrics, name)(*stats, reduction="none", zero_division=0.0)[0]
        assert ours == pytest.approx(theirs.tolist()), name


def test_dice_is_the_harmonic_mean_of_precision_and_recall() -> None:
    counts = torch.from_numpy(np.random.default_rng(1).integers(0, 50, (6, 6)))
    part = part_of(1.0, counts, 1, None)
    for dice, precision, recall in zip(
        part.class_dice, part.class_precision, part.class_recall, strict=True
    ):
        assert dice is not None
        assert precision is not None
        assert recall is not None
        assert math.isclose(dice, 2 * precision * recall / (precision + recall))
