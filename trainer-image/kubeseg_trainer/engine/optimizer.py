"""The optimizer, and its state by parameter name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kubeseg_types.training import Training


def make_optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer that `training` asks for, fused (one pass over the parameters)."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    wanted = training.optimizer
    rate = training.learning_rate
    if wanted.name == "SGD":
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=wanted.momentum,
            weight_decay=wanted.weight_decay,
            fused=True,
        )
    kind = torch.optim.AdamW if wanted.name == "AdamW" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=wanted.weight_decay, fused=True)


def optimizer_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts as `<parameter>/<slot>`; nothing for what never had a gradient."""
    state = {}
    for name, parameter in network.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                state[f"{name}/{slot}"] = value
    return state


def load_optimizer_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_state` gave.

    Moments get the memory format of their parameter: a fused step on a channels-last parameter
    with contiguous moments computes something else, without an error.
    """
    parameters = dict(network.named_parameters())
    for key, value in state.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            placed = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:
            placed = value.to(parameter.device, copy=True)
        optimizer.state[parameter][slot] = placed.detach()
