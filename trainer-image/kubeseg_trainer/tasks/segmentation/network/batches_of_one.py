"""Batches of one: what batch norm does where there is no variance."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn


def _single_value(inputs: Tensor) -> bool:
    return inputs.shape[0] * math.prod(inputs.shape[2:]) == 1


def make_batches_of_one_honest(network: nn.Module) -> None:
    """Let batch norm see single values.

    After global pooling (DeepLabV3, DeepLabV3Plus, PAN, UPerNet), or on a picture so small that one
    pixel is left, a batch of one gives each channel one value: no variance, and torch refuses. Such
    a layer normalises that batch with its running statistics, as it will when the network is used,
    and doesn't learn statistics from it. Nothing else changes, no sample is left out or doubled.

    Hooks, which torch.compile traces without a break; timm's layers derive from batch norm and have
    them too. Converting to another kind of layer (SyncBatchNorm) loses them: convert first.
    """

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and _single_value(inputs[0]):
            module.training = False
            module._single = True  # type: ignore[assignment]  # noqa: SLF001 - our own mark

    def after(module: nn.Module, *_: Any) -> None:
        if getattr(module, "_single", False):
            module.training = True
            del module._single  # noqa: SLF001 - our own mark

    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the base class
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after, always_call=True)
