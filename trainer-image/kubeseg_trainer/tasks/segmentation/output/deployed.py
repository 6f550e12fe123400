"""The network as it is used: pictures as they are read go in, logits and labels come out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.network.fitting import STEP
from kubeseg_trainer.tasks.segmentation.network.network import build_network, padded_side
from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo, info_of
from kubeseg_types.spec import Architecture, Model


@dataclass(frozen=True)
class Padding:
    """What a side is padded to: the next multiple of `step`, and `minimum` at least."""

    minimum: int
    step: int

    def target(self, size: int) -> int:
        """Pixels after padding."""
        return max(self.minimum, math.ceil(size / self.step) * self.step)


def model_of(info: ModelInfo) -> Model:
    """The spec's words for the network of `info`."""
    return Model(
        architecture=Architecture(info.architecture),
        encoder=info.encoder,
        in_channels=info.in_channels,
    )


def padding_of(info: ModelInfo) -> Padding:
    """The padding that makes a square of the image size what the network was trained on.

    So it does, in image mode Crop, with what is smaller. ConfigurationError where the network can't
    do any such size.
    """
    model = model_of(info)
    padded = padded_side(model, info.image_size)
    smallest = padded if info.image_mode == "Crop" else padded_side(model, STEP)
    for step in (STEP, 2 * STEP, 4 * STEP):
        if Padding(smallest, step).target(info.image_size) == padded:
            return Padding(smallest, step)
    return Padding(padded, padded)


def load_deployed(weights: Path) -> tuple[Deployed, ModelInfo]:
    """The model of a weights file, on the CPU and in evaluation mode, and what it says of itself.

    ConfigurationError where it is no weights file of kubeseg's.
    """
    try:
        with safe_open(weights, framework="pt") as file:
            info = info_of(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = build_network(model_of(info), len(info.class_names), info.image_size)
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"{weights} is no weights file of kubeseg (safetensors with its metadata): {error}"
        ) from error
    return Deployed(network, info, padding_of(info)).eval(), info


class Deployed(nn.Module):
    """Normalises, pads, predicts and crops back: all that lies between a file and its labels."""

    def __init__(self, network: nn.Module, info: ModelInfo, padding: Padding) -> None:
        super().__init__()
        self.network = network
        self.padding = padding
        shape = (1, info.in_channels, 1, 1)
        full = float(info.full_scale)
        self._mean: Tensor
        self._scale: Tensor
        self.register_buffer("_mean", torch.tensor(info.mean).reshape(shape) * full)
        self.register_buffer("_scale", 1 / (torch.tensor(info.std).reshape(shape) * full))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N × classes × H × W, float32) and labels (N × H × W, uint8) of images as they are
        read (N × C × H × W, float32, 0 to 255 or 65535).

        The border is repeated outwards, evenly on both sides.
        """
        values = (image - self._mean) * self._scale
        height, width = image.shape[2], image.shape[3]
        tall, wide = self._padded(height), self._padded(width)
        top, left = (tall - height) // 2, (wide - width) // 2
        edges = (left, wide - width - left, top, tall - height - top)
        logits = self.network(F.pad(values, edges, mode="replicate"))
        logits = logits[:, :, top : top + height, left : left + width].float()
        return logits, logits.argmax(dim=1).to(torch.uint8)

    def _padded(self, size: int | Tensor) -> int:
        if not isinstance(size, Tensor):
            return self.padding.target(size)
        # While it is traced, sizes are tensors, and the arithmetic becomes part of the graph.
        step = self.padding.step
        target = torch.div(size + step - 1, step, rounding_mode="floor") * step
        return torch.clamp(target, min=self.padding.minimum)  # type: ignore[return-value]


def _bins(size: int, count: int, like: Tensor) -> Tensor:
    """Weights, count × size: each row the mean over one bin."""
    first = torch.arange(count, device=like.device)
    begin = torch.div(first * size, count, rounding_mode="floor")
    end = torch.div((first + 1) * size + count - 1, count, rounding_mode="floor")
    place = torch.arange(size, device=like.device)
    inside = (place >= begin[:, None]) & (place < end[:, None])
    return inside.to(like.dtype) / (end - begin)[:, None].to(like.dtype)


def pool_to(values: Tensor, rows: int, columns: int) -> Tensor:
    """N × C × H × W averaged to N × C × rows × columns, as two matrix products.

    What `adaptive_avg_pool2d` computes (bin i of n takes floor(i·H/n) up to ceil((i+1)·H/n)), in
    operations that ONNX has for sizes known only when it runs.
    """
    down = _bins(values.shape[2], rows, values)
    across = _bins(values.shape[3], columns, values)
    return down @ values @ across.transpose(0, 1)


@contextmanager
def pooling_at_any_size() -> Iterator[None]:
    """Meanwhile torch pools by `pool_to`: PSPNet and UPerNet can then be exported for any size."""
    original = F.adaptive_avg_pool2d

    def pool(values: Tensor, size: int | tuple[int | None, int | None]) -> Tensor:
        rows, columns = size if isinstance(size, tuple | list) else (size, size)
        # A pooling to one pixel is a plain mean, which ONNX has.
        if rows is None or columns is None or (rows, columns) == (1, 1):
            return original(values, size)
        return pool_to(values, rows, columns)

    F.adaptive_avg_pool2d = pool  # type: ignore[assignment]
    try:
        yield
    finally:
        F.adaptive_avg_pool2d = original
