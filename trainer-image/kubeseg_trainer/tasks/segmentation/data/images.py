"""Reading images: any common kind of file, 1 to 16 channels, 8 or 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kubeseg_trainer.errors import DatasetError

#: Whole numbers without a sign; images are uint8 or uint16, masks uint8.
Pixels = NDArray[np.uint8]

_STACKS = frozenset({".tif", ".tiff", ".npy"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"}) | _STACKS
#: Inside the trainer, "not trained on and not counted"; so no class can have this label.
VOID = 255
#: OpenCV's averaging takes no more channels at once.
_AT_ONCE = 4
BROKEN = (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError)

_CHANNELS = {"1": 1, "L": 1, "I": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "LA": 4, "PA": 4, "RGBA": 4}


class UnreadableError(Exception):
    """A file that is no image or mask; the text says why."""


@dataclass(frozen=True)
class Facts:
    """What an image is, before it is decoded for good."""

    width: int
    height: int
    #: As decoded: a palette is RGB, grey with alpha is RGBA.
    channels: int
    #: Whether the fourth of four channels is alpha, and may be dropped.
    alpha: bool
    bits: int


def channel_problem(facts: Facts, wanted: int) -> str | None:
    """Why an image can't be read with `wanted` channels, or None.

    Grey becomes RGB and RGB grey; alpha is dropped. No other channel is invented or dropped.
    """
    pictures = facts.channels in (1, 3) or facts.alpha
    if facts.channels == wanted or (pictures and wanted in (1, 3)):
        return None
    plural = "" if facts.channels == 1 else "s"
    return (
        f"has {facts.channels} channel{plural}, spec.model.inChannels is {wanted}: set that to "
        f"{facts.channels}, or save the image with {wanted}"
    )


def read_image(path: Path, channels: int = 3, bits: int = 8) -> Pixels:
    """Image, H × W × `channels` (RGB order), uint8 or, with 16 `bits`, uint16.

    8 bits become 16 and 16 bits 8 over the full range. The orientation tag is left alone: masks
    have none, and must go on fitting. DatasetError where the file is broken, or has other channels.
    """
    if path.suffix.lower() in _STACKS and _is_stack(path):
        from kubeseg_trainer.tasks.segmentation.data.stacks import read_stack

        try:
            pixels: Any = read_stack(path)
        except UnreadableError as error:
            raise DatasetError(f"{path} {error}") from error
        pixels = _fit(path, pixels, channels)
    else:
        pixels = _decode(path, channels, bits)
    return _with_bits(pixels, bits)


def _decode(path: Path, channels: int, bits: int) -> Any:
    if channels == 1:
        flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    elif channels == 3:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    else:
        # Leaves the orientation alone, too; no other flag may stand beside it.
        flags = cv2.IMREAD_UNCHANGED
    if bits == 16 and flags != cv2.IMREAD_UNCHANGED:
        flags |= cv2.IMREAD_ANYDEPTH
    pixels: Any = cv2.imread(str(path), flags)
    if pixels is None:
        raise DatasetError(f"{path} can't be read as an image: replace it, or remove it")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] != channels:
        raise _mismatch(path, pixels.shape[2], channels)
    if channels == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA) if channels == 4 else pixels


def _fit(path: Path, pixels: Any, channels: int) -> Any:
    """Channels of a stack: grey and RGB become one another, the rest must fit."""
    there = pixels.shape[2]
    if there == channels:
        return pixels
    if (there, channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    if (there, channels) == (3, 1):
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
    raise _mismatch(path, there, channels)


def _mismatch(path: Path, there: int, wanted: int) -> DatasetError:
    return DatasetError(f"{path} has {there} channels, not the {wanted} of spec.model.inChannels")


def _with_bits(pixels: Any, bits: int) -> Pixels:
    if bits == 16 and pixels.dtype == np.uint8:
        wide: Any = pixels.astype(np.uint16) * 257
        return wide  # type: ignore[no-any-return]
    if bits == 8 and pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels  # type: ignore[no-any-return]


def _is_stack(path: Path) -> bool:
    """Whether the file is an array, or a TIFF that common decoders don't read whole."""
    if path.suffix.lower() == ".npy":
        return True
    from kubeseg_trainer.tasks.segmentation.data.stacks import is_plain_tiff

    return not is_plain_tiff(path)


def check_image(path: Path) -> Facts:
    """What the image at `path` is; UnreadableError where it is none or not whole.

    Cheap for files that bring check sums or decode in part; others are read whole.
    """
    if path.suffix.lower() in _STACKS:
        from kubeseg_trainer.tasks.segmentation.data.stacks import check_stack

        return check_stack(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            channels = _CHANNELS.get(image.mode, 3)
            if image.mode == "P" and "transparency" in image.info:
                channels = 4
            # PIL itself shows colours with 16 bits as 8; what it decodes from tells.
            stored = str(image.tile[0][3]) if image.tile else ""
            bits = 16 if image.mode.startswith("I") or ";16" in stored else 8
            if image.format == "JPEG":
                # An eighth of the size decodes fast, and finds where a file is cut off.
                image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
                image.load()
            elif image.format == "PNG":
                image.verify()
            else:
                image.load()
            return Facts(width, height, channels, channels == 4, bits)
    except BROKEN as error:
        raise UnreadableError(f"can't be read: {error}") from error


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) by the file's header; UnreadableError where there is none."""
    if path.suffix.lower() in _STACKS:
        facts = check_image(path)
        return facts.width, facts.height
    try:
        with Image.open(path) as image:
            return image.size
    except BROKEN as error:
        raise UnreadableError(f"can't be read: {error}") from error


def resize(image: Pixels, mask: Pixels, side: int) -> tuple[Pixels, Pixels]:
    """Image and mask as squares of `side` pixels; the mask keeps its labels."""
    return resize_image(image, side), cv2.resize(  # type: ignore[return-value]
        mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT
    )


def resize_image(image: Pixels, side: int) -> Pixels:
    """`image` (H × W, or H × W × C, uint8 or uint16) as a square of `side` pixels."""
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    smaller = side < min(height, width)
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    if image.ndim == 2 or image.shape[2] <= _AT_ONCE:
        return cv2.resize(image, (side, side), interpolation=method)  # type: ignore[return-value]
    groups = [image[:, :, first : first + _AT_ONCE] for first in range(0, image.shape[2], _AT_ONCE)]
    return np.dstack([cv2.resize(group, (side, side), interpolation=method) for group in groups])
