"""A look at the files of one pair: facts, whatever the training wants of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.images import (
    Facts,
    UnreadableError,
    channel_problem,
    check_image,
    read_image,
)
from kubeseg_trainer.tasks.segmentation.data.masks import (
    MAX_VALUE,
    counted,
    read_colors,
    read_labels,
)

#: Of the values in one mask; more of them are colours blended at edges, or no mask at all.
MOST_VALUES = 1024


@dataclass(frozen=True)
class Wanted:
    """What a look depends on, besides the files."""

    channels: int
    colors: bool


@dataclass(frozen=True)
class Look:
    """What one pair showed."""

    image: str
    mask: str
    #: (file, text) where the pair can't be used.
    problem: tuple[str, str] | None = None
    facts: Facts | None = None
    #: What the mask holds, sorted, and how many pixels have each.
    values: tuple[int, ...] = ()
    pixels: tuple[int, ...] = ()
    #: Of each channel and its square, where the type's full range is 0 to 1; empty: not measured.
    mean: tuple[float, ...] = ()
    square: tuple[float, ...] = ()
    #: SHA-256 of the image's file; empty: no other has its size.
    digest: str = ""


def look_at(pair: Pair, root: Path, wanted: Wanted, *, measure: bool, digest: bool) -> Look:
    """What the files of `pair` are, or why they can't be used.

    `measure` reads the image whole for its channels' mean and deviation.
    """
    image_name = pair.image.relative_to(root).as_posix()
    # A pack of masks lies outside: there, the image stands for its mask.
    mask_name = image_name if pair.span else pair.mask.relative_to(root).as_posix()

    def refused(file: str, text: str) -> Look:
        return Look(image_name, mask_name, (file, text))

    try:
        facts = check_image(pair.image)
        wrong = channel_problem(facts, wanted.channels)
        if wrong:
            return refused(image_name, wrong)
        mean, square = _moments(pair.image, wanted.channels, facts.bits) if measure else ((), ())
        seal = hashlib.sha256(pair.image.read_bytes()).hexdigest() if digest else ""
    except (UnreadableError, OSError) as error:
        return refused(image_name, str(error))
    except DatasetError as error:
        return refused(image_name, str(error).removeprefix(f"{pair.image} "))
    try:
        raw = read_colors(pair.mask) if wanted.colors else read_labels(pair.mask, pair.span)
    except UnreadableError as error:
        return refused(mask_name, str(error))
    if raw.shape != (facts.height, facts.width):
        text = f"is {raw.shape[1]}×{raw.shape[0]}, its image {facts.width}×{facts.height}"
        return refused(mask_name, text)
    counts = counted(raw)
    if not wanted.colors and (min(counts) < 0 or max(counts) > MAX_VALUE):
        return refused(mask_name, f"has label {max(counts)}, masks end at {MAX_VALUE}")
    if len(counts) > MOST_VALUES:
        return refused(
            mask_name,
            f"has {len(counts)} different {'colours' if wanted.colors else 'labels'}: save it "
            f"without blended edges (no anti-aliasing, no lossy format)",
        )
    values = tuple(sorted(counts))
    return Look(
        image_name,
        mask_name,
        None,
        facts,
        values,
        tuple(counts[value] for value in values),
        mean,
        square,
        seal,
    )


def _moments(path: Path, channels: int, bits: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pixels: Any = read_image(path, channels, bits)
    mean, deviation = cv2.meanStdDev(pixels)
    full = np.iinfo(pixels.dtype).max
    scaled, spread = mean.reshape(-1) / full, deviation.reshape(-1) / full
    squares = scaled**2 + spread**2
    return tuple(float(one) for one in scaled), tuple(float(one) for one in squares)
