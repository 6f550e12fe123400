"""What a model's file says about itself: how to build its network, and how to feed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

ImageMode = Literal["Resize", "Crop"]

#: Of ImageNet's RGB channels; what files of version 0.1 without these entries were trained with.
_MEAN = "[0.485, 0.456, 0.406]"
_STD = "[0.229, 0.224, 0.225]"


@dataclass(frozen=True)
class ModelInfo:
    """A model, apart from its weights."""

    architecture: str
    encoder: str
    class_names: tuple[str, ...]
    #: Colour of each class, `#rrggbb`.
    colors: tuple[str, ...]
    in_channels: int
    epoch: int
    #: Side of the square that it was trained on, in pixels.
    image_size: int
    image_mode: ImageMode
    #: Share of its side that two windows have in common (image mode Crop).
    window_overlap: float
    #: Of each channel, where the full range is 0 to 1.
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: Bits of a channel: 8 or 16.
    bits: int

    @property
    def full_scale(self) -> int:
        """The highest value of a channel as it is read."""
        return (1 << self.bits) - 1


def metadata_of(info: ModelInfo) -> dict[str, str]:
    """`info` as the metadata of a weights file or an ONNX file."""
    return {
        "architecture": info.architecture,
        "encoder": info.encoder,
        "classes": json.dumps(list(info.class_names), ensure_ascii=False),
        "colors": json.dumps(list(info.colors)),
        "inChannels": str(info.in_channels),
        "epoch": str(info.epoch),
        "imageSize": str(info.image_size),
        "imageMode": info.image_mode,
        "windowOverlap": str(info.window_overlap),
        "mean": json.dumps(list(info.mean)),
        "std": json.dumps(list(info.std)),
        "bits": str(info.bits),
        "format": "pt",
    }


def info_of(metadata: Mapping[str, str]) -> ModelInfo:
    """The description in `metadata`; KeyError or ValueError where it is none of kubeseg's."""
    mode = metadata.get("imageMode", "Resize")
    if mode not in {"Resize", "Crop"}:
        raise ValueError(f"imageMode is {mode!r}")
    names = tuple(str(name) for name in json.loads(metadata["classes"]))
    info = ModelInfo(
        architecture=metadata["architecture"],
        encoder=metadata["encoder"],
        class_names=names,
        colors=tuple(str(color) for color in json.loads(metadata.get("colors", "[]"))),
        in_channels=int(metadata.get("inChannels", "3")),
        epoch=int(metadata["epoch"]),
        image_size=int(metadata["imageSize"]),
        image_mode=cast("ImageMode", mode),
        window_overlap=float(metadata.get("windowOverlap", "0.25")),
        mean=tuple(float(value) for value in json.loads(metadata.get("mean", _MEAN))),
        std=tuple(float(value) for value in json.loads(metadata.get("std", _STD))),
        bits=int(metadata.get("bits", "8")),
    )
    if not len(info.mean) == len(info.std) == info.in_channels:
        raise ValueError(
            f"{len(info.mean)} means and {len(info.std)} deviations for {info.in_channels} channels"
        )
    return info
