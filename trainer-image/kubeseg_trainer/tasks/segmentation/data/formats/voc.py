"""Pascal VOC (SegmentationClass), read by datumaro."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datumaro.components.annotation import AnnotationType
from datumaro.components.errors import DatumaroError
from datumaro.plugins.data_formats.voc.base import VocBase
from datumaro.plugins.data_formats.voc.format import VocTask

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import (
    BACKGROUND,
    VOID_VALUE,
    Annotations,
    Area,
    Drawing,
    part_of,
    with_background,
)
from kubeseg_types.spec import Splits

#: What VOC calls pixels that count nowhere (the border of its objects); 255 in its masks.
_IGNORED = frozenset({"ignored", "void"})
_LISTS = "ImageSets/Segmentation"


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is more than datumaro's word, for each image, on objects that aren't told apart:
    a mask of classes is all that is wanted.
    """
    return "only class segmentations available" not in str(record.msg)


# Datumaro writes to the root logger itself.
logging.getLogger().addFilter(_is_news)


def find_files(root: Path) -> list[Path]:
    """Lists of the parts, masks, and the map of labels."""
    lists = sorted(root.glob(f"**/{_LISTS}/*.txt"))
    if not lists:
        return []
    base = lists[0].parents[2]
    # trainval repeats the two others.
    named = [path for path in lists if path.stem in ("train", "val", "test")]
    return [*(named or lists), *sorted(base.glob("labelmap.txt")), *_masks(base)]


def _masks(base: Path) -> list[Path]:
    return sorted((base / "SegmentationClass").glob("*.png"))


def read(
    root: Path, files: Sequence[Path], images: Sequence[Path], splits: Splits | None
) -> Annotations:
    """What the masks say. Their colours are those of labelmap.txt, or VOC's own."""
    lists = [path for path in files if path.parent.match(_LISTS)]
    try:
        parts: list[tuple[Path, Any]] = [
            (path, VocBase(str(path), task=VocTask.voc_segmentation)) for path in lists
        ]
        labels = [label.name for label in parts[0][1].categories()[AnnotationType.label]]
    except (DatumaroError, OSError, ValueError) as error:
        raise DatasetError(f"{root.name} is no Pascal VOC that can be read: {error}") from error
    names = with_background(name for name in labels if name not in _IGNORED)
    result = Annotations(names, (), sum(len(part) for _, part in parts))
    result.drawings = _drawings(
        root, parts, labels, splits=splits, images=set(images), result=result
    )
    return result


def _drawings(
    root: Path,
    parts: list[tuple[Path, Any]],
    labels: list[str],
    *,
    splits: Splits | None,
    images: set[Path],
    result: Annotations,
) -> Iterator[Drawing]:
    for path, part in parts:
        source = path.relative_to(root).as_posix()
        base = path.parents[2]
        try:
            for item in part:
                mask = base / "SegmentationClass" / f"{item.id}.png"
                image = Path(item.media.path) if item.media is not None else Path()
                result.described.add(image)
                if image not in images or not mask.is_file():
                    what = "mask" if image in images else "image"
                    result.problems.append(Problem(source, f"names {item.id}, which has no {what}"))
                    continue
                where = mask.relative_to(root).as_posix()
                areas = [
                    area
                    for shape in item.annotations
                    if (area := _area(shape, labels, where, result)) is not None
                ]
                yield Drawing(image, where, part_of(path.stem, splits), areas)
        except (DatumaroError, OSError, ValueError, KeyError) as error:
            raise DatasetError(f"{source}: {_chain(error)}") from error


def _chain(error: BaseException) -> str:
    return f"{error}{f' ({error.__cause__})' if error.__cause__ else ''}"


def _area(shape: Any, labels: list[str], where: str, result: Annotations) -> Area | None:
    label = int(shape.label)
    name = labels[label] if label < len(labels) else None
    if label == 255 or name in _IGNORED:
        return Area(VOID_VALUE, bitmap=shape.image)
    if name is None:
        text = f"has label {label}, the classes end at {len(labels) - 1}"
        result.problems.append(Problem(where, text))
        return None
    value = 0 if name.lower() == BACKGROUND else result.names.index(name)
    return Area(value, bitmap=shape.image)
