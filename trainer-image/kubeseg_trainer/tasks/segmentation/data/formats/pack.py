"""Annotations drawn as masks, once, into one file: PNGs one behind the other.

One file is written atomically, whatever a network file system does with thousands of small ones,
and a sample is read with one seek.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from kubeseg_trainer.files import TEMPORARY
from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import (
    Annotations,
    Area,
    Drawing,
    Part,
)
from kubeseg_trainer.tasks.segmentation.data.images import BROKEN, UnreadableError, size_of
from kubeseg_trainer.tasks.segmentation.data.masks import Span


@dataclass(frozen=True)
class Drawn:
    """An image, and where its mask lies in the pack."""

    image: Path
    part: Part | None
    span: Span


def draw(areas: list[Area], size: tuple[int, int]) -> Any:
    """Mask of `size` (width, height), uint16: values of `areas`, the later ones on top."""
    width, height = size
    # Column by column, as pycocotools decodes: a quarter faster than against the order.
    mask = np.zeros((height, width), np.uint16, order="F")
    for area in areas:
        mask[_inside(area, height, width)] = area.value
    return np.ascontiguousarray(mask)


def _inside(area: Area, height: int, width: int) -> Any:
    if area.bitmap is not None:
        inside = np.asarray(area.bitmap, bool)
        if inside.shape != (height, width):
            have = f"{inside.shape[1]}×{inside.shape[0]}"
            raise ValueError(f"a mask of {have} on an image of {width}×{height}")
        return inside
    shape: Any = area.rle if area.rle is not None else area.polygons
    if isinstance(shape, dict):
        if [int(side) for side in shape["size"]] != [height, width]:
            have = f"{shape['size'][1]}×{shape['size'][0]}"
            raise ValueError(f"run lengths of {have} on an image of {width}×{height}")
        # Compressed run lengths are text; others are numbers, and get compressed.
        packed = shape["counts"]
        runs = coco_mask.frPyObjects(shape, height, width) if isinstance(packed, list) else shape
    else:
        polygons = [[float(number) for number in polygon] for polygon in shape]
        if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon of fewer than 3 points")
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return coco_mask.decode(runs).view(bool)


def write_pack(
    annotations: Annotations, target: Path, root: Path, progress: Callable[[int, int], None]
) -> list[Drawn]:
    """Draw all masks into `target`, which is made whole or not at all; OSError where not."""
    # Several pods may draw the same masks at once, each as process 1.
    temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}-{target.name}"
    drawn: dict[Path, Drawn] = {}
    try:
        with temporary.open("wb") as file:
            for done, drawing in enumerate(annotations.drawings, 1):
                annotations.described.add(drawing.image)
                if drawing.image in drawn:
                    inside = drawing.image.relative_to(root).as_posix()
                    text = f"describes {inside}, which has been described before"
                    annotations.problems.append(Problem(drawing.source, text))
                    continue
                span = _append(file, drawing, annotations, root)
                if span is not None:
                    drawn[drawing.image] = Drawn(drawing.image, drawing.part, span)
                progress(done, max(done, annotations.total))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return list(drawn.values())


def _append(file: Any, drawing: Drawing, annotations: Annotations, root: Path) -> Span | None:
    inside = drawing.image.relative_to(root).as_posix()
    try:
        size = size_of(drawing.image)
        if drawing.size is not None and drawing.size != size:
            said = f"{drawing.size[0]}×{drawing.size[1]}"
            text = f"says that {inside} is {said}, it is {size[0]}×{size[1]}"
            annotations.problems.append(Problem(drawing.source, text))
            return None
        mask = draw(drawing.areas, size)
    except (*BROKEN, UnreadableError, KeyError, TypeError) as error:
        annotations.problems.append(
            Problem(f"{drawing.source} ({inside})", f"can't be drawn: {error}")
        )
        return None
    narrow = mask if mask.max(initial=0) > 254 else mask.astype(np.uint8)
    _, data = cv2.imencode(".png", narrow, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    begin = file.tell()
    file.write(data.tobytes())
    return begin, len(data)
