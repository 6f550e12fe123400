"""CVAT XML ("CVAT for images" and "for video"), read by datumaro."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datumaro.components.annotation import AnnotationType
from datumaro.components.errors import DatumaroError
from datumaro.plugins.data_formats.cvat.base import CvatBase
from defusedxml import ElementTree

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import (
    BACKGROUND,
    Annotations,
    Area,
    Drawing,
    part_of,
    with_background,
)
from kubeseg_types.spec import Splits

_BROKEN = (DatumaroError, ElementTree.ParseError, KeyError, ValueError, AttributeError, TypeError)


def find_files(root: Path) -> list[Path]:
    """XML files in the folder that begin as CVAT's do."""
    return [path for path in sorted(root.glob("*.xml")) if b"<annotations" in _head(path)]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def read(
    root: Path, files: Sequence[Path], images: Sequence[Path], splits: Splits | None
) -> Annotations:
    """What the XML files say; objects lie on top of each other as in CVAT (z-order)."""
    parts: list[tuple[Path, Any]] = []
    for path in files:
        try:
            parts += [(path, CvatBase(str(path), subset=subset)) for subset in _subsets(path)]
        except _BROKEN as error:
            raise DatasetError(f"{path.name} is no CVAT XML that can be read: {error}") from error
    labels = [
        [label.name for label in part.categories()[AnnotationType.label]] for _, part in parts
    ]
    names = with_background(dict.fromkeys(name for listed in labels for name in listed))
    result = Annotations(names, (), sum(len(part) for _, part in parts))
    result.drawings = _drawings(
        root, parts, labels, splits=splits, images=set(images), result=result
    )
    return result


def _subsets(path: Path) -> list[str | None]:
    """Subsets that the file tells apart; datumaro reads one of them at a time."""
    found: dict[str | None, None] = {}
    for _, element in ElementTree.iterparse(path):
        if element.tag in ("image", "track"):
            found[element.attrib.get("subset")] = None
    return list(found) or [None]


def _drawings(
    root: Path,
    parts: list[tuple[Path, Any]],
    labels: list[list[str]],
    *,
    splits: Splits | None,
    images: set[Path],
    result: Annotations,
) -> Iterator[Drawing]:
    skipped: dict[str, Counter[str]] = defaultdict(Counter)
    for (path, part), listed in zip(parts, labels, strict=True):
        values = [0 if n.lower() == BACKGROUND else result.names.index(n) for n in listed]
        for item in part:
            image = Path(os.path.normpath(item.media.path))
            if image not in images:
                text = f"names the image {item.id}, which isn't there"
                result.problems.append(Problem(path.name, text))
                continue
            inside = image.relative_to(root).as_posix()
            where = f"{path.name} ({inside})"
            hint = part_of(str(item.subset), splits) or part_of(inside, splits)
            areas = _areas(item.annotations, values, where, result, skipped[path.name])
            size = item.media.size
            yield Drawing(image, path.name, hint, areas, (size[1], size[0]) if size else None)
    for file, kinds in skipped.items():
        for kind, number in kinds.items():
            text = f"has {number} shapes of the kind {kind}, which are no areas: left out"
            result.warnings.append(Problem(file, text))


def _areas(
    shapes: Sequence[Any],
    values: list[int],
    where: str,
    result: Annotations,
    skipped: Counter[str],
) -> list[Area]:
    areas = []
    for shape in sorted(shapes, key=lambda shape: getattr(shape, "z_order", 0)):
        if shape.attributes.get("outside"):
            continue
        if shape.type not in (AnnotationType.polygon, AnnotationType.mask):
            if shape.type != AnnotationType.label:
                skipped[shape.type.name] += 1
        elif shape.label is None:
            result.problems.append(Problem(where, "has a shape whose label the file doesn't list"))
        elif shape.type == AnnotationType.polygon:
            areas.append(Area(values[shape.label], polygons=[list(shape.points)]))
        else:
            areas.append(Area(values[shape.label], bitmap=shape.image))
    return areas
