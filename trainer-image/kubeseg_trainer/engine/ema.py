"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(step: int, decay: float) -> float:
    """Share of the old average kept at `step` (from 1): (1 + n) / (10 + n), up to `decay`.

    So the first steps' random weights are soon forgotten; the same ramp as TensorFlow's
    ExponentialMovingAverage. A function of the position: nothing of it has to be saved.
    """
    return min(decay, (1 + step) / (10 + step))


class Average:
    """The average of a network's parameters; its buffers (batch norm's statistics) are used as
    they are.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        blend = get_ema_multi_avg_fn(decay_at(step, self._decay))  # type: ignore[no-untyped-call]
        blend(self._averages, self._parameters, step)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the averages as its weights, for as long as the context lasts."""
        with torch.no_grad():
            trained = [parameter.detach().clone() for parameter in self._parameters]
            for parameter, average in zip(self._parameters, self._averages, strict=True):
                parameter.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, trained, strict=True):
                    parameter.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self._names, self._averages, strict=True))

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(tensors[name])
