"""The loss: a weighted sum of terms, over the pixels that count."""

from __future__ import annotations

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from torch import Tensor

from kubeseg_trainer.tasks.segmentation.images import VOID
from kubeseg_types.training import Loss

Term = Callable[[Tensor, Tensor], Tensor]


def _cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    return F.cross_entropy(logits, mask, ignore_index=VOID)


def _term(name: str) -> Term:
    match name:
        case "CrossEntropy":
            return _cross_entropy
        case "Dice":
            loss = smp.losses.DiceLoss("multiclass", ignore_index=VOID)
        case "Focal":
            loss = smp.losses.FocalLoss("multiclass", ignore_index=VOID)
        case "Jaccard":
            loss = smp.losses.JaccardLoss("multiclass", ignore_index=VOID)
        case "Lovasz":
            loss = smp.losses.LovaszLoss("multiclass", ignore_index=VOID)
        case "Tversky":
            loss = smp.losses.TverskyLoss("multiclass", ignore_index=VOID)
        case _:
            raise AssertionError(name)
    return loss  # type: ignore[no-any-return]


class SegmentationLoss:
    """Loss of logits (N × C × H × W) against masks (N × H × W, int64, VOID left out)."""

    def __init__(self, loss: Loss) -> None:
        self._terms = [(_term(term.name), term.weight) for term in loss.terms]

    def __call__(self, logits: Tensor, mask: Tensor, *, any_counts: bool) -> Tensor:
        """The weighted sum; 0, with a graph, where no pixel counts (a mean over nothing is NaN)."""
        if not any_counts:
            return logits.sum() * 0.0
        total = logits.new_zeros(())
        for term, weight in self._terms:
            total = total + weight * term(logits, mask)
        return total
