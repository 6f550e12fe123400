"""What a data set looks like: its parts, and images that want a mask of the same stem."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from kubeseg_api.errors import InvalidError

IMAGES, MASKS = "images", "masks"
TRAIN, VALIDATION = "train", "val"
#: What the trainer reads; everything else in these folders is left alone.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".npy"})
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
SHOWN = 5


class LayoutError(InvalidError):
    """422: not laid out as a data set."""

    kind, title = "dataset-layout", "Not laid out as a data set"


@dataclass
class Part:
    """One pair of images/ and masks/: stems of the images and masks right inside them."""

    images: list[str]
    masks: list[str]


def parts_of(files: list[str]) -> dict[str, Part]:
    """The parts among relative paths: "" for the data set's own images/ and masks/, else the name
    of the folder that has them.
    """
    parts: dict[str, Part] = {}
    for file in files:
        segments = PurePosixPath(file).parts
        for depth in (0, 1):
            if len(segments) <= depth + 1 or segments[depth] not in {IMAGES, MASKS}:
                continue
            part = parts.setdefault("/".join(segments[:depth]), Part([], []))
            if len(segments) == depth + 2:
                _add(part, segments[depth], segments[-1])
            break
    return parts


def _add(part: Part, folder: str, name: str) -> None:
    path = PurePosixPath(name)
    if folder == IMAGES and is_image(name):
        part.images.append(path.stem)
    if folder == MASKS and path.suffix.lower() in MASK_SUFFIXES:
        part.masks.append(path.stem)


def is_image(name: str) -> bool:
    """Whether a file in images/ is an image, by its name."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def check(files: list[str]) -> None:
    """Raises LayoutError where the files are no data set, with the names in question."""
    parts = parts_of(files)
    needed = [""] if "" in parts else [TRAIN, VALIDATION]
    if not parts or not all(name in parts for name in needed):
        seen = sorted({PurePosixPath(file).parts[0] for file in files})[:SHOWN]
        raise LayoutError(
            "the archive must hold images/ and masks/, or train/ and val/ with those inside; at "
            f"its top there is: {', '.join(map(repr, seen)) or 'nothing'}"
        )
    for name, part in parts.items():
        _check_part(f"{name}/" if name else "", part)


def _check_part(prefix: str, part: Part) -> None:
    if not part.images or not part.masks:
        raise LayoutError(
            f"{prefix}{IMAGES}/ has {len(part.images)} images and {prefix}{MASKS}/ has "
            f"{len(part.masks)} masks: each image needs a mask with the same stem. Images end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}; masks in {', '.join(sorted(MASK_SUFFIXES))}"
        )
    for folder, stems in ((IMAGES, part.images), (MASKS, part.masks)):
        twice = sorted(stem for stem, count in Counter(stems).items() if count > 1)
        if twice:
            raise LayoutError(
                f"{prefix}{folder}/ has more than one file with the same stem: {_shown(twice)}",
                files=twice[:SHOWN],
            )
    missing = sorted(set(part.images) - set(part.masks))
    if missing:
        raise LayoutError(
            f"{len(missing)} of {len(part.images)} images in {prefix}{IMAGES}/ have no mask with "
            f"the same stem in {prefix}{MASKS}/: {_shown(missing)}",
            files=[f"{prefix}{IMAGES}/{stem}" for stem in missing[:SHOWN]],
        )


def _shown(stems: list[str]) -> str:
    more = f" (+{len(stems) - SHOWN} more)" if len(stems) > SHOWN else ""
    return ", ".join(map(repr, stems[:SHOWN])) + more
