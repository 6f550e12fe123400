"""What every annotation file is read into: images, and areas on them that have a class."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_trainer.tasks.segmentation.data.images import IMAGE_SUFFIXES
from kubeseg_types.spec import Splits

Part = Literal["train", "validation", "test"]

BACKGROUND = "background"
#: In a drawn mask: void, whatever the classes are.
VOID_VALUE = 65535

_PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Area:
    """Pixels of one object: exactly one of the three."""

    #: Position in `Annotations.names`, or VOID_VALUE.
    value: int
    #: Each x, y, x, y, … in pixels.
    polygons: list[list[float]] | None = None
    #: COCO's run lengths, compressed or not.
    rle: dict[str, Any] | None = None
    #: H × W, true where the object is.
    bitmap: Any = None


@dataclass(frozen=True)
class Drawing:
    """One image with its areas, the later ones on top."""

    image: Path
    #: The file that describes it, relative to the data set.
    source: str
    part: Part | None
    areas: list[Area]
    #: (width, height) as the file says; None: it doesn't.
    size: tuple[int, int] | None = None


@dataclass
class Annotations:
    """All images of a data set with their areas."""

    #: Class names; the first is the background, which need not be annotated.
    names: list[str]
    #: Read once; `problems` and `warnings` grow meanwhile.
    drawings: Iterable[Drawing]
    total: int
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    #: Images that a file speaks of, whether their masks can be drawn or not; grows, too.
    described: set[Path] = field(default_factory=set)


def with_background(names: Iterable[str]) -> list[str]:
    """`names` behind the background, which they may hold already at any place."""
    others = [name for name in names if name.lower() != BACKGROUND]
    return [BACKGROUND, *others]


def part_of(hint: str, splits: Splits | None) -> Part | None:
    """The part that a file's, folder's or subset's name speaks of; the last word counts."""
    if splits is not None:
        named: dict[str, Part] = {splits.train: "train", splits.validation: "validation"}
        if splits.test is not None:
            named[splits.test] = "test"
        there = re.split(r"[^A-Za-z0-9._-]+", hint) + re.split(r"[^A-Za-z0-9]+", hint)
        return next((part for name, part in named.items() if name in there), None)
    words = [_PARTS[word] for word in _WORD.findall(hint.lower()) if word in _PARTS]
    return words[-1] if words else None


def images_below(root: Path) -> list[Path]:
    """All image files of the data set, sorted; masks of Pascal VOC are pictures, but no images.

    Folders may be links, as those of the folder format may.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        # A link may lead back to where we are.
        real = os.path.realpath(folder)
        if real in seen or Path(folder).name.startswith("Segmentation"):
            folders.clear()
            continue
        seen.add(real)
        images = (n for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES)
        found += [Path(folder) / name for name in images if not name.startswith(".")]
    return sorted(found)


class ImageFinder:
    """Finds the images that annotation files name, inside the data set only."""

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        self._root = root
        self._known = set(images)
        self._by_name: dict[str, list[Path]] = {}
        for image in self._known:
            self._by_name.setdefault(image.name, []).append(image)

    def find(self, name: str, beside: Path) -> Path | None:
        """The image called `name` by a file in `beside`; None where there is none, or several."""
        folders = (beside, beside / "images", self._root, self._root / "images")
        for folder in folders:
            path = Path(os.path.normpath(folder / name))
            if path in self._known:
                return path
        same = self._by_name.get(Path(name).name, [])
        return same[0] if len(same) == 1 else None
