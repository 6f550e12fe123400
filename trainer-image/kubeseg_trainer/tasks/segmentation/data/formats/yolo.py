"""YOLO polygons (Ultralytics' data.yaml), read by labelformat."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from labelformat.formats.yolov8 import YOLOv8InstanceSegmentationInput
from labelformat.model.image import Image

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import (
    Annotations,
    Area,
    Drawing,
    Part,
    with_background,
)
from kubeseg_types.spec import Splits

_KEYS: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}


def find_files(root: Path) -> list[Path]:
    """The YAML that names folders and classes, and the label files."""
    settings = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    labels = sorted(root.glob("**/labels/**/*.txt"))
    return [*settings[:1], *labels] if labels else []


class _Labelled(YOLOv8InstanceSegmentationInput):
    """The images that have a label file: the library fails on the others, which show background."""

    current = ""

    def get_images(self) -> Iterable[Image]:
        for image in super().get_images():
            self.current = str(image.filename)
            if self.label_file(image).exists():
                yield image

    def label_file(self, image: Image) -> Path:
        return (self._labels_dir() / str(image.filename)).with_suffix(".txt")

    def picture(self, image: Image) -> Path:
        return self._images_dir() / str(image.filename)


def read(
    root: Path, files: Sequence[Path], images: Sequence[Path], _: Splits | None
) -> Annotations:
    """What the label files say; smaller objects lie on top of larger ones.

    The parts are those of data.yaml.
    """
    settings = files[0]
    try:
        document: Any = yaml.safe_load(settings.read_text(encoding="utf-8"))
        names = document["names"]
        # A list, or a mapping from number to name.
        listed = [str(names[number]) for number in range(len(names))]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, IndexError) as error:
        raise DatasetError(
            f"{settings.name} is no data.yaml of YOLO, with `names`, `train` and `val`: {error}"
        ) from error
    folders = {
        part: [_folder(root, settings, entry) for key in keys for entry in _entries(document, key)]
        for part, keys in _KEYS.items()
    }
    if not folders["train"]:
        raise DatasetError(f"{settings.name} is no data.yaml of YOLO: it names no `train`")
    result = Annotations(with_background(listed), (), len(images))
    result.drawings = _drawings(root, listed, folders, set(images), result)
    return result


def _entries(document: Any, key: str) -> list[str]:
    entry = document.get(key) or []
    return [str(one) for one in entry] if isinstance(entry, list) else [str(entry)]


def _folder(root: Path, settings: Path, entry: str) -> str:
    """The folder of images that `entry` means, relative to the data set.

    Settings are written for another machine, mostly: what counts is how the entry ends.
    """
    parts = [part for part in Path(entry).parts if part not in ("/", "..", ".")]
    for first in range(len(parts)):
        folder = Path(*parts[first:])
        for candidate in (folder, folder / "images"):
            if (root / candidate).is_dir() and "images" in candidate.parts:
                return candidate.as_posix()
    raise DatasetError(
        f"{settings.name} names the folder {entry}, which isn't there: it must be one of images "
        f"inside the data set, such as images/train with labels/train beside it"
    )


def _drawings(
    root: Path,
    names: list[str],
    folders: dict[Part, list[str]],
    images: set[Path],
    result: Annotations,
) -> Iterator[Drawing]:
    values = {name: result.names.index(name) if name in result.names else 0 for name in names}
    for part, places in folders.items():
        for place in places:
            labelled = _open(root, place, names)
            seen = set()
            for image, areas in _labelled(root, labelled, values, result):
                seen.add(image)
                yield Drawing(image, place, part, areas)
            # Without a label file: nothing but background.
            inside = root / place
            for image in sorted(images - seen):
                if image.is_relative_to(inside):
                    yield Drawing(image, place, part, [])


def _open(root: Path, place: str, names: list[str]) -> _Labelled:
    # The library takes a file only, and believes its paths: one that says where things are here.
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as settings:
        yaml.safe_dump({"path": str(root), "train": place, "names": names}, settings)
        settings.flush()
        return _Labelled(Path(settings.name), "train")


def _labelled(
    root: Path, labelled: _Labelled, values: dict[str, int], result: Annotations
) -> Iterator[tuple[Path, list[Area]]]:
    try:
        for label in labelled.get_labels():
            where = labelled.label_file(label.image).relative_to(root).as_posix()
            areas = []
            for thing in label.objects:
                polygons: Any = thing.segmentation
                flat = [
                    [number for point in polygon for number in point]
                    for polygon in polygons.polygons
                ]
                if any(len(polygon) < 6 for polygon in flat):
                    text = "holds boxes, or polygons of fewer than 3 points: polygons are needed"
                    result.problems.append(Problem(where, text))
                    break
                areas.append(Area(values[thing.category.name], polygons=flat))
            yield labelled.picture(label.image), sorted(areas, key=_extent, reverse=True)
    except (ValueError, KeyError, IndexError) as error:
        raise DatasetError(
            f"the labels of {labelled.current} can't be read ({type(error).__name__}: {error}): "
            f"each line is a class number, then x and y of each point between 0 and 1"
        ) from error


def _extent(area: Area) -> float:
    """Twice the surface of a polygon (the shoelace formula)."""
    total = 0.0
    for polygon in area.polygons or []:
        points = list(zip(polygon[::2], polygon[1::2], strict=True))
        turned = [*points[1:], points[0]]
        total += abs(sum(x * v - u * y for (x, y), (u, v) in zip(points, turned, strict=True)))
    return total
