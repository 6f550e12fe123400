"""The learning rate as a function of how far the training is, so that `epochs` may change."""

from __future__ import annotations

import math

from kubeseg_types.training import Scheduler

#: Share of the peak that Cosine and Polynomial end at: a last step of 0 would be wasted.
FLOOR = 0.01
_POWER = 0.9


def learning_rate(scheduler: Scheduler, *, peak: float, done: float, epochs: float) -> float:
    """The rate for the next step.

    `done` is in epochs, with its fraction; `epochs` how many there are to be. Nothing else counts:
    after a resume, or a change of `epochs`, the curve goes on where `done` stands on it.
    """
    warmup = min(scheduler.warmup_epochs, epochs)
    if done < warmup:
        # Begins above 0: the first step moves as well.
        return peak * max(done / warmup, FLOOR)
    if scheduler.name == "Constant" or epochs <= warmup:
        return peak
    share = min(1.0, (done - warmup) / (epochs - warmup))
    if scheduler.name == "Cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    else:
        factor = (1 - share) ** _POWER
    return peak * (FLOOR + (1 - FLOOR) * factor)
