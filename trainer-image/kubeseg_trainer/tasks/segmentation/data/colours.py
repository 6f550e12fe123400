"""A colour for each class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from kubeseg_trainer.tasks.segmentation.data.images import Pixels
from kubeseg_types.spec import ClassName

#: What no class looks like: pixels that are not counted.
NEUTRAL = (128, 128, 128)
#: What wrong pixels look like.
WRONG = (230, 30, 40)
_TAKEN = ((0, 0, 0), (255, 255, 255), NEUTRAL)
#: Brightness of each channel that a colour may have: 6 × 6 × 6 of them to choose from, and more
#: in between.
_LEVELS = (0, 40, 85, 128, 170, 213, 255)


@cache
def distinct(count: int) -> Pixels:
    """`count` colours (count × 3, RGB), each the farthest in CIELAB from all those before it, and
    from black, white and grey: the method of Glasbey et al., "Colour displays for categorical
    images" (2007). The first ones stay the same whatever the count.
    """
    levels = np.array(_LEVELS, np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    colours = _lab(grid)
    nearest = np.full(len(grid), np.inf)
    for taken in _lab(np.array(_TAKEN, np.uint8)):
        nearest = np.minimum(nearest, np.linalg.norm(colours - taken, axis=1))
    chosen = []
    for _ in range(count):
        best = int(nearest.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(colours - colours[best], axis=1))
    return grid[chosen]


def _lab(colours: Pixels) -> NDArray[np.float64]:
    """CIELAB of colours (N × 3, RGB)."""
    as_image = (colours.astype(np.float32) / 255)[None]
    return np.asarray(cv2.cvtColor(as_image, cv2.COLOR_RGB2LAB)[0], dtype=np.float64)


def colour_table(classes: Sequence[ClassName] | None, count: int) -> Pixels:
    """Colours of all 256 labels (256 × 3, RGB): the class map's where it has them, else distinct
    ones; labels above the `count` classes are void, and neutral.
    """
    table = np.full((256, 3), NEUTRAL, np.uint8)
    table[:count] = distinct(count)
    for label, name in enumerate((classes or ())[:count]):
        if name.color is not None:
            table[label] = tuple(bytes.fromhex(name.color[1:]))
    return table


def class_colors(classes: Sequence[ClassName] | None, count: int) -> tuple[str, ...]:
    """`#rrggbb` of each of `count` classes, as `colour_table` has them."""
    table = colour_table(classes, count)[:count].tolist()
    return tuple("#" + "".join(f"{value:02x}" for value in color) for color in table)
