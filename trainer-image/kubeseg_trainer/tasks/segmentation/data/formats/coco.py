"""COCO JSON: polygons and run lengths, which pycocotools draws."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import (
    BACKGROUND,
    Annotations,
    Area,
    Drawing,
    ImageFinder,
    part_of,
    with_background,
)
from kubeseg_types.spec import Splits


def find_files(root: Path) -> list[Path]:
    """Annotation files: in the folder, in annotations/, or in a part's own folder."""
    found = [*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob("*/*coco*.json")]
    files = sorted(set(found))
    # COCO's own folder holds captions and key points of the same images, too.
    instances = [path for path in files if path.name.startswith("instances")]
    return instances or files


def read(
    root: Path, files: Sequence[Path], images: Sequence[Path], splits: Splits | None
) -> Annotations:
    """What the JSON files say; smaller objects lie on top of larger ones."""
    documents = [(path, _load(root, path)) for path in files]
    names = with_background(
        dict.fromkeys(
            str(category["name"])
            for _, document in documents
            for category in sorted(document["categories"], key=lambda category: category["id"])
        )
    )
    result = Annotations(names, (), sum(len(document["images"]) for _, document in documents))
    result.drawings = _drawings(root, documents, ImageFinder(root, images), splits, result)
    return result


def _load(root: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    try:
        document: Any = json.loads(path.read_bytes())
        wanted = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ()}
        for key, fields in wanted.items():
            for entry in document[key]:
                for field in fields:
                    entry[field]
        for entry in document["annotations"]:
            entry["image_id"], entry["category_id"]
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{name} is no COCO JSON: {error}") from error
    except KeyError as error:
        raise DatasetError(f"{name} is no COCO JSON: it has no {error}") from error
    return document  # type: ignore[no-any-return]


def _drawings(
    root: Path,
    documents: Sequence[tuple[Path, dict[str, Any]]],
    finder: ImageFinder,
    splits: Splits | None,
    result: Annotations,
) -> Iterator[Drawing]:
    for path, document in documents:
        source = path.relative_to(root).as_posix()
        values = {
            category["id"]: 0
            if category["name"].lower() == BACKGROUND
            else result.names.index(category["name"])
            for category in document["categories"]
        }
        by_image: dict[Any, list[Any]] = defaultdict(list)
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        known = {entry["id"] for entry in document["images"]}
        for strange, some in by_image.items():
            if strange not in known:
                more = f" and {len(some) - 1} more" if len(some) > 1 else ""
                text = f"has the unknown image_id {strange} ({_name(some[0])}{more})"
                result.problems.append(Problem(source, text))
        for entry in document["images"]:
            name = str(entry["file_name"])
            image = finder.find(name, path.parent)
            if image is None:
                result.problems.append(
                    Problem(source, f"names the image {name}, which isn't there")
                )
                continue
            inside = image.relative_to(root).as_posix()
            part = part_of(source, splits) or part_of(inside, splits)
            annotations = by_image.get(entry["id"], [])
            size = (entry["width"], entry["height"]) if "width" in entry else None
            areas = _areas(annotations, values, f"{source} ({inside})", result)
            yield Drawing(image, source, part, areas, size)


def _areas(
    annotations: list[Any], values: dict[Any, int], where: str, result: Annotations
) -> list[Area]:
    areas = []
    # Crowds first, then by size.
    ordered = sorted(annotations, key=lambda a: (not a.get("iscrowd", 0), -float(a.get("area", 0))))
    for annotation in ordered:
        category, shape = annotation["category_id"], annotation.get("segmentation")
        if category not in values:
            result.problems.append(
                Problem(where, f"has the unknown category {category} ({_name(annotation)})")
            )
        elif isinstance(shape, dict):
            areas.append(Area(values[category], rle=shape))
        elif isinstance(shape, list) and shape:
            areas.append(Area(values[category], polygons=shape))
        else:
            text = f"has an object without a segmentation ({_name(annotation)}): left out"
            result.warnings.append(Problem(where, text))
    return areas


def _name(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation['id']}" if "id" in annotation else "an annotation without id"
