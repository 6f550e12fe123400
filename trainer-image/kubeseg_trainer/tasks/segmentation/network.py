"""The network: built by smp, checked before time is spent, padded for and cropped back."""

from __future__ import annotations

import copy
import difflib
import math
import warnings
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from torch import Tensor, nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.spec import Model

#: Means and deviations of ImageNet's RGB channels, which encoders' weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
#: What each of the networks can divide its input by; PAN needs more than that when small.
STEP = 32


def build_network(model: Model, classes: int) -> nn.Module:
    """Smp's network with random weights; ConfigurationError where there is no such one."""
    known: list[str] = smp.encoders.get_encoder_names()
    if not model.encoder.startswith("tu-") and model.encoder not in known:
        near = difflib.get_close_matches(model.encoder, known, n=3) or known[:6]
        raise ConfigurationError(
            f"spec.model.encoder: must be an encoder of smp, not {model.encoder!r}: "
            f"{', '.join(near)}, … ({len(known)} in all, or tu-<name> for one of timm)"
        )
    try:
        with warnings.catch_warnings():
            # About names that smp will give up some day; nothing a run's log needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            network: nn.Module = smp.create_model(
                model.architecture.value,
                encoder_name=model.encoder,
                encoder_weights=None,
                in_channels=3,
                classes=classes,
            )
    except (ValueError, KeyError, RuntimeError, NotImplementedError, AssertionError) as error:
        raise _refused(model, error) from error
    return network


def _refused(model: Model, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"spec.model: {model.architecture.value} can't be built on the encoder {model.encoder!r}: "
        f"{str(error).strip(chr(39) + chr(34))[:300]}. Choose another encoder (resnet34 and "
        f"mobilenet_v2 go with every architecture)"
    )


def _runs(network: nn.Module, side: int) -> Exception | None:
    """Why `network`, on the meta device, can't do a square of `side`; None where it can."""
    try:
        with torch.no_grad():
            shape = network(torch.empty(1, 3, side, side, device="meta")).shape
    except Exception as error:  # noqa: BLE001 - whatever a network of a library may raise
        return error
    return None if shape[2:] == (side, side) else ValueError(f"{side} in gives {shape[2:]} out")


def padded_side(network: nn.Module, side: int, model: Model) -> int:
    """The smallest size from `side` on, in steps of 32, that `network` can do.

    Tried without computing anything (meta device). ConfigurationError where none does.
    """
    probe = copy.deepcopy(network).to("meta").eval()
    first = math.ceil(side / STEP) * STEP
    failure: Exception | None = None
    candidates: list[int] = [*range(first, 257, STEP), first, math.ceil(side / 128) * 128]
    for candidate in candidates:
        failure = _runs(probe, candidate)
        if failure is None:
            return candidate
    assert failure is not None
    raise _refused(model, failure) from failure


def prepare(images: Tensor, side: int) -> Tensor:
    """Images (N × 3 × H × W, uint8) as the network wants them: normalised, `side` pixels wide.

    The border is repeated outwards, evenly on both sides.
    """
    mean = torch.tensor(MEAN, device=images.device).reshape(1, 3, 1, 1) * 255
    scale = 1 / (torch.tensor(STD, device=images.device).reshape(1, 3, 1, 1) * 255)
    values = (images.float() - mean) * scale
    top, left = (side - images.shape[2]) // 2, (side - images.shape[3]) // 2
    bottom, right = side - images.shape[2] - top, side - images.shape[3] - left
    if top or left or bottom or right:
        values = F.pad(values, (left, right, top, bottom), mode="replicate")
    return values.contiguous(memory_format=torch.channels_last)


def crop(logits: Tensor, height: int, width: int) -> Tensor:
    """The part of `logits` that belongs to the picture that `prepare` padded."""
    top, left = (logits.shape[2] - height) // 2, (logits.shape[3] - width) // 2
    return logits[:, :, top : top + height, left : left + width]


def _single_value(inputs: Tensor) -> bool:
    return inputs.shape[0] * math.prod(inputs.shape[2:]) == 1


def make_batches_of_one_honest(network: nn.Module) -> None:
    """Let batch norm see single values.

    After global pooling (DeepLabV3, DeepLabV3Plus, PAN), or on a picture so small that one pixel
    is left, a batch of one gives each channel one value: no variance, and torch refuses. Such a
    layer normalises that batch with its running statistics, as it will when the network is used,
    and doesn't learn statistics from it. Nothing else changes, no sample is left out or doubled.
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
