"""From a pair of files to arrays: the one place that knows how a data set's masks are written."""

from __future__ import annotations

from dataclasses import dataclass

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.images import Pixels, UnreadableError, read_image
from kubeseg_trainer.tasks.segmentation.data.masks import (
    mapped,
    read_colors,
    read_labels,
    read_mask,
)


@dataclass(frozen=True)
class Decoding:
    """How the files of a data set become arrays; small, and the same in every process."""

    channels: int = 3
    ignore_index: int | None = None
    #: Of each image: uint8, or uint16.
    bits: int = 8
    #: (what the masks hold, label), the ignored with VOID; None: they hold the labels themselves.
    labels: tuple[tuple[int, int], ...] | None = None
    #: Whether masks hold colours (0xRRGGBB) instead of values.
    colors: bool = False


def read_pair(pair: Pair, decoding: Decoding) -> tuple[Pixels, Pixels]:
    """Image (H × W × channels, uint8 or uint16) and mask (H × W, uint8, VOID 255) of `pair`.

    DatasetError where a file is broken.
    """
    image = read_image(pair.image, decoding.channels, decoding.bits)
    if decoding.labels is None:
        return image, read_mask(pair.mask, decoding.ignore_index, pair.span)
    try:
        raw = read_colors(pair.mask) if decoding.colors else read_labels(pair.mask, pair.span)
    except UnreadableError as error:
        raise DatasetError(f"{pair.mask} {error}") from error
    return image, mapped(raw, decoding.labels)
