"""Tiny seeded data sets for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make_pair(size: tuple[int, int], seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image (H × W × 3) and labels (H × W) of `size` (width, height): bright discs on noise."""
    width, height = size
    random = np.random.default_rng(seed)
    image = random.integers(0, 90, (height, width, 3))
    mask = np.zeros((height, width), np.uint8)
    rows, columns = np.ogrid[:height, :width]
    for label in range(1, classes):
        row, column = random.integers(0, height), random.integers(0, width)
        radius = max(2, min(size) // 4)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        mask[inside] = label
        image[inside, label % 3] += 150
    return image.astype(np.uint8), mask


def write_pair(folder: Path, stem: str, image: np.ndarray, mask: np.ndarray) -> None:
    """Put a pair into images/ and masks/ of `folder`."""
    for kind, pixels in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{stem}.png")


def make_dataset(
    workspace: Path,
    name: str = "discs",
    *,
    count: int = 6,
    size: tuple[int, int] = (48, 40),
    classes: int = 3,
    parts: Sequence[str] = ("",),
) -> Path:
    """A data set of `count` images for each of `parts` ("" is the folder itself); its folder."""
    folder = workspace / "datasets" / name
    for number, part in enumerate(parts):
        for index in range(count):
            image, mask = make_pair(size, seed=1000 * number + index, classes=classes)
            write_pair(folder / part if part else folder, f"{index:03d}", image, mask)
    return folder
