"""How much each class counts in a loss, from how often it occurs in the training part."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.training import Loss

#: No class counts for more than this, or for less than its inverse, before they are scaled.
BOUND = 10.0


def class_weights(pixels: Sequence[int]) -> list[float]:
    """A weight for each class from its number of `pixels`; over all of them the mean weight is 1.

    sqrt(median frequency / frequency), between 1/10 and 10: median-frequency balancing (Eigen and
    Fergus, "Predicting Depth, Surface Normals and Semantic Labels", ICCV 2015, section 5) under a
    square root, which keeps a class of a few pixels from drowning all others (the same damping as
    in Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018). The
    median is taken over the classes that occur; one that doesn't gets the largest weight.
    """
    occurring = [count for count in pixels if count > 0]
    if not occurring:
        return [1.0] * len(pixels)
    median = statistics.median(occurring)
    raw = [
        min(BOUND, max(1 / BOUND, (median / count) ** 0.5)) if count else BOUND for count in pixels
    ]
    mean = sum(w * n for w, n in zip(raw, pixels, strict=True)) / sum(pixels)
    return [weight / mean for weight in raw]


def weights_for(loss: Loss, pixels: Sequence[int]) -> list[float] | None:
    """The weights that `loss` asks for, or None; ConfigurationError where they can't be had."""
    if loss.class_weights == "None":
        return None
    if not any(pixels):
        raise ConfigurationError(
            "spec.training.loss.classWeights: Auto needs the number of pixels of each class, and "
            "the training part's masks hold none that count: set it to None"
        )
    return class_weights(pixels)
