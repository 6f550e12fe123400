"""The network: built by smp, checked before time is spent, padded for and cropped back."""

from __future__ import annotations

import difflib

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from torch import Tensor, nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.data.normalisation import Normalisation
from kubeseg_trainer.tasks.segmentation.network.fitting import assemble_network, fit
from kubeseg_types.spec import Model


def build_network(model: Model, classes: int, side: int) -> nn.Module:
    """Smp's network for pictures of `side` pixels, with random weights.

    ConfigurationError where there is no such one, or where it can't take such pictures.
    """
    check_encoder(model.encoder)
    return assemble_network(model, classes, fit(model, side).settings)


def padded_side(model: Model, side: int) -> int:
    """The side, in pixels and at least `side`, that the network of `model` can do."""
    check_encoder(model.encoder)
    return fit(model, side).side


def check_encoder(encoder: str) -> None:
    """ConfigurationError where neither smp nor timm (`tu-<name>`) knows the encoder."""
    smps: list[str] = smp.encoders.get_encoder_names()
    if encoder in smps:
        return
    name = encoder.removeprefix("tu-")
    if name != encoder and timm.is_model(name):
        return
    timms = [f"tu-{each}" for each in timm.list_models()]
    known = [*smps, *timms]
    near = _near(encoder, known) or smps[:6]
    raise ConfigurationError(
        f"spec.model.encoder: must be an encoder of smp or timm, not {encoder!r}: "
        f"{', '.join(near)}, … ({len(smps)} of smp, {len(timms)} of timm, as tu-<name>)"
    )


def _near(encoder: str, known: list[str]) -> list[str]:
    """Encoders that may have been meant: those that differ in their number only, then others."""
    stem, number = _stem(encoder)
    family = [(name, _stem(name)) for name in known if name != encoder]
    same = [(abs(other - number), name) for name, (prefix, other) in family if prefix == stem]
    named = [name for _, name in sorted(same)[:3]]
    return list(dict.fromkeys([*named, *difflib.get_close_matches(encoder, known, n=3)]))


def _stem(encoder: str) -> tuple[str, int]:
    """A name without the number at its end, and that (-1: none)."""
    stem = encoder.rstrip("0123456789")
    return stem, int(encoder[len(stem) :] or -1)


class Scaling:
    """A normalisation on a device, made once: `mean` and `std` are 1 × C × 1 × 1, float32."""

    def __init__(self, normalisation: Normalisation, device: torch.device | str = "cpu") -> None:
        shape = (1, -1, 1, 1)
        self.mean = torch.tensor(normalisation.mean, device=device).reshape(shape)
        self.std = torch.tensor(normalisation.std, device=device).reshape(shape)


def prepare(images: Tensor, side: int, scaling: Scaling) -> Tensor:
    """Images (N × C × H × W, uint8 or uint16) as the network wants them: their type's range taken
    as 0 to 1 and normalised, `side` pixels wide. The result is float32, channels last.

    The border is repeated outwards, evenly on both sides.
    """
    full = torch.iinfo(images.dtype).max
    values = (images.float() - scaling.mean * full) * (1 / (scaling.std * full))
    top, left = (side - images.shape[2]) // 2, (side - images.shape[3]) // 2
    bottom, right = side - images.shape[2] - top, side - images.shape[3] - left
    if top or left or bottom or right:
        values = F.pad(values, (left, right, top, bottom), mode="replicate")
    return values.contiguous(memory_format=torch.channels_last)


def crop(logits: Tensor, height: int, width: int) -> Tensor:
    """The part of `logits` that belongs to the picture that `prepare` padded."""
    top, left = (logits.shape[2] - height) // 2, (logits.shape[3] - width) // 2
    return logits[:, :, top : top + height, left : left + width]
