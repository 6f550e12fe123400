"""Losses and gradients that are no numbers."""

from __future__ import annotations

import pytest
import torch

from kubeseg_trainer.engine.finite import FiniteWatch
from kubeseg_trainer.errors import NonFiniteLossError

GOOD, BAD = torch.tensor(1.0), torch.tensor(float("nan"))
NAMES = [f"{number}.png" for number in range(20)]


def test_on_a_cpu_it_is_told_at_once() -> None:
    watch = FiniteWatch(NAMES, torch.device("cpu"))
    watch.loss(GOOD, [0, 1], epoch=0, step=0)
    with pytest.raises(NonFiniteLossError, match=r"loss became nan in epoch 1, step 2, .* 3\.png"):
        watch.loss(BAD, [2, 3], epoch=0, step=1)


def test_on_a_gpu_it_is_told_a_step_later_or_when_asked() -> None:
    watch = FiniteWatch(NAMES, torch.device("cuda"))
    watch.loss(BAD, [0], epoch=0, step=0)
    watch.gradients(GOOD, [0], epoch=0, step=0)
    with pytest.raises(NonFiniteLossError, match=r"step 1, on the batch 0\.png"):
        watch.check()
    watch.check()
    watch.loss(GOOD, [0], epoch=0, step=0)
    watch.gradients(BAD, [0], epoch=0, step=0)
    watch.loss(BAD, [1], epoch=0, step=1)
    with pytest.raises(NonFiniteLossError, match=r"the gradients' norm became nan .* step 1, "):
        watch.loss(BAD, [1], epoch=0, step=2)


def test_long_batches_are_not_listed_whole() -> None:
    watch = FiniteWatch(NAMES, torch.device("cpu"))
    with pytest.raises(NonFiniteLossError, match=r"7\.png \(\+3 more\)\. Lower spec"):
        watch.loss(BAD, list(range(11)), epoch=0, step=0)
