"""The loss: a weighted sum of terms, over the pixels that count.

Written out here rather than taken from smp: the terms share one softmax and make no one-hot copies
(a third of the time and memory of smp's cross-entropy and Dice), focal loss is the softmax one,
every term takes class weights, and nothing makes a GPU wait. Tests hold them to smp's values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_types.training import Loss

#: Keeps quotients of nothing by nothing finite.
EPSILON = 1e-7
#: Focal loss: how much less a pixel counts that is nearly right (Lin et al., 2017: 2).
FOCUS = 2.0
#: Tversky: what a false positive and a false negative count; misses count more, for small objects
#: (Salehi et al., 2017: 0.3 and 0.7). Dice is 0.5 and 0.5, Jaccard 1 and 1.
TVERSKY = (0.3, 0.7)


class Pixels:
    """What the terms share of a batch: `logits` N × C × H × W, `mask` N × H × W (VOID left out)."""

    def __init__(self, logits: Tensor, mask: Tensor, weights: Tensor | None) -> None:
        self.classes = logits.shape[1]
        self.counted = mask != VOID
        self.labels = torch.where(self.counted, mask, 0)
        self.log_probability = logits.log_softmax(dim=1)
        #: One for each class, or None.
        self.weights = weights

    @cached_property
    def probability(self) -> Tensor:
        """Softmax, N × C × H × W."""
        return self.log_probability.exp()

    @cached_property
    def log_of_truth(self) -> Tensor:
        """The logarithm of the probability of the true class, N × H × W."""
        return self.log_probability.gather(1, self.labels.unsqueeze(1)).squeeze(1)

    def by_class(self, values: Tensor) -> Tensor:
        """Sums of `values` (N × H × W) over the pixels of each class, C."""
        amount, bins = len(values), self.classes + 1
        # A bin for each sample and class, the last for what is left out: on a GPU all pixels of a
        # class would queue up for one.
        offset = torch.arange(amount, device=values.device).reshape(-1, 1, 1) * bins
        kinds = torch.where(self.counted, self.labels, self.classes) + offset
        sums = values.new_zeros(amount * bins).scatter_add(0, kinds.flatten(), values.flatten())
        return sums.reshape(amount, bins).sum(dim=0)[:-1]

    @cached_property
    def truth(self) -> Tensor:
        """Pixels of each class, C, float."""
        return self.by_class(torch.ones_like(self.labels)).float()

    def mean_over_samples(self, losses: Tensor) -> Tensor:
        """Mean over a batch of each sample's mean over its pixels that count (N × H × W).

        With class weights a pixel counts with its class's, and the sum is divided by the number of
        pixels: their mean weight over the data set is 1. A sample without any pixel has loss 0.
        """
        share = self.counted.to(losses.dtype)
        amounts = share.sum(dim=(1, 2)).clamp(min=1)
        if self.weights is not None:
            share = share * self.weights[self.labels]
        return ((losses * share).sum(dim=(1, 2)) / amounts).mean()

    def mean_over_classes(self, losses: Tensor) -> Tensor:
        """Mean of the losses of the classes (C); one that the batch's truth lacks has loss 0."""
        losses = losses * (self.truth > 0)
        if self.weights is None:
            return losses.mean()
        return (losses * self.weights).sum() / self.weights.sum()


def cross_entropy(pixels: Pixels) -> Tensor:
    """-log p of the true class."""
    return pixels.mean_over_samples(-pixels.log_of_truth)


def focal(pixels: Pixels) -> Tensor:
    """(1 - p)² · -log p of the true class (Lin et al., "Focal Loss for Dense Object Detection",
    2017, with softmax in place of sigmoid).
    """
    log = pixels.log_of_truth
    return pixels.mean_over_samples(-((1 - log.exp()) ** FOCUS) * log)


def overlap(false_positives: float, false_negatives: float) -> Callable[[Pixels], Tensor]:
    """1 - TP / (TP + α FP + β FN) of each class, of the whole batch at once, in probabilities
    (Salehi et al., "Tversky loss function for image segmentation", 2017).
    """

    def term(pixels: Pixels) -> Tensor:
        share = pixels.counted.to(pixels.probability.dtype)
        predicted = (pixels.probability * share.unsqueeze(1)).sum(dim=(0, 2, 3))
        hits = pixels.by_class(pixels.log_of_truth.exp())
        misses, wrong = pixels.truth - hits, predicted - hits
        whole = hits + false_positives * wrong + false_negatives * misses
        return pixels.mean_over_classes(1 - hits / whole.clamp(min=EPSILON))

    return term


def lovasz(pixels: Pixels) -> Tensor:
    """Lovász-Softmax over the classes that occur (Berman et al., CVPR 2018, algorithm 1)."""
    share = pixels.counted.flatten()
    labels = pixels.labels.flatten()
    losses = []
    for label in range(pixels.classes):
        of_class = share & (labels == label)
        chance = pixels.probability[:, label].flatten()
        # Left-out pixels have error 0: they come last, and add nothing.
        errors, order = ((of_class.float() - chance).abs() * share).sort(descending=True)
        inside = of_class[order]
        # In whole numbers: float32 can't count the pixels of a large batch.
        total = inside.sum()
        intersection = total - inside.cumsum(0)
        union = total + (~inside).cumsum(0)
        jaccard = 1 - intersection.float() / union.float().clamp(min=1)
        losses.append((errors * jaccard.diff(prepend=jaccard.new_zeros(1))).sum())
    present = (pixels.truth > 0).float()
    shares = present if pixels.weights is None else present * pixels.weights
    return (torch.stack(losses) * shares).sum() / shares.sum().clamp(min=EPSILON)


TERMS: dict[str, Callable[[Pixels], Tensor]] = {
    "CrossEntropy": cross_entropy,
    "Dice": overlap(0.5, 0.5),
    "Focal": focal,
    "Jaccard": overlap(1.0, 1.0),
    "Lovasz": lovasz,
    "Tversky": overlap(*TVERSKY),
}


class SegmentationLoss:
    """Loss of logits (N × C × H × W, float32) against masks (N × H × W, int64, VOID left out).

    Cross-entropy and focal loss are means over samples: parts of a batch, each with its share of
    the samples, add up to the whole. The others are quotients of sums over all that is given at
    once, and mean over parts something slightly else.
    """

    def __init__(self, loss: Loss, weights: Sequence[float] | None = None) -> None:
        self._terms = [(TERMS[term.name], term.weight) for term in loss.terms]
        self._weights = None if weights is None else torch.tensor(weights)

    def __call__(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The weighted sum; 0, with a graph, where no pixel counts."""
        if self._weights is not None:
            self._weights = self._weights.to(logits.device)
        pixels = Pixels(logits, mask, self._weights)
        total = logits.new_zeros(())
        for term, weight in self._terms:
            total = total + weight * term(pixels)
        return total
