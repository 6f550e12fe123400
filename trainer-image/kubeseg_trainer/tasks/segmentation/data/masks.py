"""Reading masks: the labels or colours in a file, and the classes that they stand for."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.images import BROKEN, VOID, Pixels, UnreadableError

MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
#: Modes whose values are labels as they stand; of a palette image the indices count.
_LABEL_MODES = frozenset({"L", "P", "1", "I", "I;16", "I;16B", "I;16L"})
#: Largest value that can stand for a class in an index mask.
MAX_VALUE = 65535

#: Where a mask is: a file, or (offset, length) of a picture within a pack of them.
Span = tuple[int, int]
#: What a mask holds: whole numbers of any width.
Values = NDArray[np.integer[Any]]


def _opened(path: Path, span: Span | None) -> Image.Image:
    if span is None:
        return Image.open(path)
    with path.open("rb") as file:
        file.seek(span[0])
        return Image.open(io.BytesIO(file.read(span[1])))


def read_labels(path: Path, span: Span | None = None) -> Values:
    """Labels, H × W, of a mask, as wide as stored; UnreadableError where it is no label image."""
    try:
        with _opened(path, span) as image:
            if image.mode not in _LABEL_MODES:
                raise UnreadableError(
                    f"is a {image.mode} image, not one of labels: save it with one channel "
                    f"(8 bits, or a palette) whose values are the class numbers, or name each "
                    f"class's colour in spec.dataset.classes[].color"
                )
            labels = np.asarray(image)
            return labels.astype(np.uint8) if labels.dtype == np.bool_ else labels
    except BROKEN as error:
        raise UnreadableError(f"can't be read: {error}") from error


def read_colors(path: Path) -> Values:
    """Colours, H × W, of a mask as 0xRRGGBB; UnreadableError where it is no image."""
    try:
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB"), dtype=np.int32)
    except BROKEN as error:
        raise UnreadableError(f"can't be read: {error}") from error
    return (rgb[:, :, 0] << 16) | (rgb[:, :, 1] << 8) | rgb[:, :, 2]


def read_mask(path: Path, ignore_index: int | None, span: Span | None = None) -> Pixels:
    """Labels of the mask at `path`, the ignored one as VOID; DatasetError where it is broken."""
    try:
        labels = read_labels(path, span)
    except UnreadableError as error:
        raise DatasetError(f"{path} {error}") from error
    # A copy: what a file holds can't be written to.
    mask = labels.astype(np.uint8)
    if ignore_index is not None and ignore_index != VOID:
        mask[labels == ignore_index] = VOID
    return mask


@functools.lru_cache(maxsize=8)
def _table(pairs: tuple[tuple[int, int], ...]) -> tuple[NDArray[np.int32], Pixels]:
    ordered = sorted(pairs)
    values = np.array([value for value, _ in ordered], np.int32)
    return values, np.array([label for _, label in ordered], np.uint8)


def mapped(raw: Values, pairs: tuple[tuple[int, int], ...]) -> Pixels:
    """The label of each value in `raw` by the table `pairs`; VOID for a value that isn't there."""
    values, labels = _table(pairs)
    if raw.dtype.itemsize <= 2:
        # Index masks: one look-up a pixel.
        table = np.full(MAX_VALUE + 1, VOID, np.uint8)
        inside = values <= MAX_VALUE
        table[values[inside]] = labels[inside]
        return table[raw]
    place = np.minimum(np.searchsorted(values, raw), len(values) - 1)
    result: Any = np.where(values[place] == raw, labels[place], VOID)
    return result  # type: ignore[no-any-return]


def counted(raw: Values) -> Mapping[int, int]:
    """How many pixels have each value."""
    # The histogram is of float32, which counts up to 2**24.
    if raw.dtype == np.uint8 and raw.size < 2**24:
        counts = cv2.calcHist([np.ascontiguousarray(raw)], [0], None, [256], [0, 256])
        return {value: int(number) for value, number in enumerate(counts.reshape(-1)) if number}
    some, numbers = np.unique(raw, return_counts=True)
    return {int(value): int(number) for value, number in zip(some, numbers, strict=True)}
