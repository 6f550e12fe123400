"""Predictions as picture files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kubeseg_trainer.tasks.segmentation.data.colours import colour_table
from kubeseg_trainer.tasks.segmentation.data.images import Pixels
from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo


def _palette(info: ModelInfo) -> Pixels:
    """Colours of all 256 labels (256 × 3, RGB)."""
    table = colour_table(None, len(info.class_names))
    for label, color in enumerate(info.colors):
        table[label] = tuple(bytes.fromhex(color[1:]))
    return table


def draw_labels(labels: NDArray[np.uint8], info: ModelInfo) -> bytes:
    """A PNG whose pixels are the labels, seen in the classes' colours (a palette image)."""
    image = Image.fromarray(labels)
    image.putpalette(_palette(info).reshape(-1).tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def draw_overlay(pixels: Pixels, labels: NDArray[np.uint8], info: ModelInfo) -> bytes:
    """A JPEG of the image with the classes' colours laid over it, half transparent.

    Of images with other than three channels the first is shown in grey.
    """
    shown = pixels if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
    # 16 bits: what is there is stretched, since most such images use a part of the range.
    highest = max(1, int(shown.max())) if info.bits > 8 else 255
    picture = shown.astype(np.float32) * (255 / highest)
    colors = _palette(info).astype(np.float32)
    blended = (picture + colors[labels]) / 2
    buffer = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
