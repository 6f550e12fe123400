"""The optimizer, and its state by parameter name."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from kubeseg_types.training import Training

log = logging.getLogger(__name__)

#: Devices whose optimizers torch has as one kernel, of those that we train on.
_FUSED = frozenset({"cuda", "cpu"})


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights with decay; biases and the scales and shifts of normalisation without.

    Decay of the latter only fights the normalisation (He et al., "Bag of Tricks for Image
    Classification", CVPR 2019, section 3.1). They are what has one dimension.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def why_not_fused(network: nn.Module) -> str | None:
    """Why the update can't be one kernel over all parameters, or None.

    Asked beforehand: torch itself finds out in the first step only.
    """
    for name, parameter in network.named_parameters():
        if parameter.device.type not in _FUSED:
            return f"{name} is on {parameter.device.type}, which has no fused kernel"
        if not parameter.is_floating_point():
            return f"{name} is {parameter.dtype}, no real number"
    return None


def make_optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer that `training` asks for; fused (one pass over all) where the device can."""
    why = why_not_fused(network)
    if why is not None:
        log.warning("the optimizer is not fused: %s", why)
    return _make(network, training, fused=why is None)


def _make(network: nn.Module, training: Training, *, fused: bool) -> torch.optim.Optimizer:
    wanted = training.optimizer
    groups = parameter_groups(network, wanted.weight_decay)
    rate = training.learning_rate
    if wanted.name == "SGD":
        return torch.optim.SGD(
            groups, lr=rate, momentum=wanted.momentum, nesterov=wanted.nesterov, fused=fused
        )
    kind = torch.optim.AdamW if wanted.name == "AdamW" else torch.optim.Adam
    return kind(groups, lr=rate, fused=fused)


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
