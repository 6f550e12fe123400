"""Reading images and masks from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kubeseg_trainer.errors import DatasetError

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
#: Inside the trainer, "not trained on and not counted"; so no class can have this label.
VOID = 255
#: Modes whose values are labels as they stand; of a palette image the indices count.
_LABEL_MODES = frozenset({"L", "P", "1", "I", "I;16", "I;16B", "I;16L"})
_BROKEN = (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError)


class UnreadableError(Exception):
    """A file that is no image or mask; the text says why."""


def read_image(path: Path) -> Pixels:
    """RGB image, H × W × 3, of a file of any common kind; DatasetError where it isn't one."""
    # The orientation tag is left alone: masks have none, and must go on fitting.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: Any = cv2.imread(str(path), flags)
    if pixels is None:
        raise DatasetError(f"{path} can't be read as an image: replace it, or remove it")
    result: Pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return result


def check_image(path: Path) -> tuple[int, int]:
    """(width, height) of the image at `path`; UnreadableError where it is none or not whole."""
    try:
        with Image.open(path) as image:
            size = image.size
            if image.format == "JPEG":
                # An eighth of the size decodes fast, and finds where a file is cut off.
                image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
                image.load()
            else:
                image.verify()
            return size
    except _BROKEN as error:
        raise UnreadableError(f"can't be read: {error}") from error


def read_labels(path: Path) -> NDArray[np.int32]:
    """Labels, H × W, of the mask at `path`; UnreadableError where it is no label image."""
    try:
        with Image.open(path) as image:
            if image.mode not in _LABEL_MODES:
                raise UnreadableError(
                    f"is a {image.mode} image, not one of labels: save it with one channel "
                    f"(8 bits, or a palette) whose values are the class numbers"
                )
            return np.asarray(image, dtype=np.int32)
    except _BROKEN as error:
        raise UnreadableError(f"can't be read: {error}") from error


def read_mask(path: Path, ignore_index: int | None) -> Pixels:
    """Labels of the mask at `path`, the ignored one as VOID; DatasetError where it is broken."""
    try:
        labels = read_labels(path)
    except UnreadableError as error:
        raise DatasetError(f"{path} {error}") from error
    mask = labels.astype(np.uint8)
    if ignore_index is not None and ignore_index != VOID:
        mask[labels == ignore_index] = VOID
    return mask


def resize(image: Pixels, mask: Pixels, side: int) -> tuple[Pixels, Pixels]:
    """Image and mask as squares of `side` pixels; the mask keeps its labels."""
    return resize_image(image, side), cv2.resize(  # type: ignore[return-value]
        mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT
    )


def resize_image(image: Pixels, side: int) -> Pixels:
    """`image` as a square of `side` pixels."""
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    smaller = side < min(height, width)
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method)  # type: ignore[return-value]
