"""Losses and gradients that are no numbers end a run, and never reach a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kubeseg_trainer.errors import NonFiniteLossError

_NAMED = 8
_TODO = "Lower spec.training.learningRate, set spec.training.clip: 1, or look at these files"


class _Value(NamedTuple):
    """A loss, or the norm of all gradients, that has not been looked at yet."""

    what: str
    value: Tensor
    samples: list[int]
    epoch: int
    step: int


class FiniteWatch:
    """Looks at values: on a GPU one step late, since the newest ones would have to be waited for.

    `check` looks at all of them; what is saved or validated comes after it.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = names
        self._late = device.type == "cuda"
        self._fresh: list[_Value] = []
        self._due: list[_Value] = []

    def loss(self, value: Tensor, samples: list[int], *, epoch: int, step: int) -> None:
        """Watch the loss of a part of step `step` (from 0) of epoch `epoch` (from 0)."""
        self._watch(_Value("loss", value.detach(), samples, epoch, step))

    def gradients(self, norm: Tensor, samples: list[int], *, epoch: int, step: int) -> None:
        """Watch the norm of a step's gradients, before they move the weights.

        A finite loss can have infinite ones: the weights would be no numbers one step before the
        loss is none.
        """
        self._watch(_Value("gradients' norm", norm.detach(), samples, epoch, step))

    def _watch(self, value: _Value) -> None:
        if self._late and self._fresh and self._fresh[-1].step != value.step:
            self._look(self._due)
            self._due, self._fresh = self._fresh, []
        self._fresh.append(value)
        if not self._late:
            self.check()

    def check(self) -> None:
        """NonFiniteLossError where a value so far is no number."""
        waiting, self._due, self._fresh = [*self._due, *self._fresh], [], []
        self._look(waiting)

    def _look(self, values: list[_Value]) -> None:
        for each in values:
            number = float(each.value)
            if not math.isfinite(number):
                names = [self._names[sample] for sample in each.samples]
                batch = f", on the batch {listed(names)}" if names else ""
                raise NonFiniteLossError(
                    f"the {each.what} became {number} in epoch {each.epoch + 1}, step "
                    f"{each.step + 1}{batch}. {_TODO}"
                )


def refuse_non_finite(loss: float, names: Sequence[str], text: str) -> None:
    """NonFiniteLossError where the loss of a batch is no number; `text` says of which pass."""
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"the loss became {loss} in {text}, on the batch {listed(names)}: the network as the "
            f"epoch left it can't be used. {_TODO}"
        )


def listed(names: Sequence[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = f" (+{len(names) - _NAMED} more)" if names[_NAMED:] else ""
    return ", ".join(names[:_NAMED]) + more
