"""Which format a data set is in, and reading the annotation formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.tasks.segmentation.check.kept import Drawings
from kubeseg_trainer.tasks.segmentation.data.dataset import MASKS, Pair, Parts, Problem
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import Annotations
from kubeseg_trainer.tasks.segmentation.data.split import divide
from kubeseg_types.spec import Dataset

Format = Literal["Folders", "Coco", "Voc", "Cvat", "Yolo"]

_NEEDS = {
    "Coco": "a JSON file, in the folder, in annotations/ or in a part's folder",
    "Voc": "ImageSets/Segmentation/*.txt, JPEGImages/ and SegmentationClass/",
    "Cvat": "an XML file (annotations.xml) and images/",
    "Yolo": "data.yaml and labels/ beside images/",
}


def _json_files(root: Path) -> bool:
    patterns = ("*.json", "annotations/*.json", "*/*coco*.json")
    return any(any(root.glob(pattern)) for pattern in patterns)


def choose_format(root: Path, dataset: Dataset) -> Format:
    """The format of the data set at `root`: as the spec says, else by what is there.

    Masks in folders go before annotation files. Looks at names only, and needs no library.
    """
    if dataset.format != "Auto":
        return dataset.format
    if (root / MASKS).is_dir() or any(root.glob(f"*/{MASKS}")):
        return "Folders"
    if (root / "SegmentationClass").is_dir() or any(root.glob("**/ImageSets/Segmentation")):
        return "Voc"
    if any(root.glob("*.yaml")) or any(root.glob("*.yml")):
        return "Yolo"
    if any(root.glob("*.xml")):
        return "Cvat"
    return "Coco" if _json_files(root) else "Folders"


def _module(chosen: str) -> ModuleType:
    name = f"kubeseg_trainer.tasks.segmentation.data.formats.{chosen.lower()}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"spec.dataset.format: {chosen} needs the library {error.name}, which isn't installed: "
            f"pip install 'kubeseg[formats]', or save the annotations as COCO JSON or as masks"
        ) from error


def annotation_files(chosen: Format, root: Path, dataset: Dataset) -> list[Path]:
    """The files that describe the images; DatasetError where there are none."""
    files: list[Path] = _module(chosen).find_files(root)
    if not files:
        raise DatasetError(
            f'data set "{dataset.name}" is not in the format {chosen} (spec.dataset.format): that '
            f"needs {_NEEDS[chosen]}"
        )
    return files


def stem_of(root: Path, image: Path) -> str:
    """The image's path below `root` without its suffix: unique, unlike names in several folders."""
    return image.relative_to(root).as_posix().removesuffix(image.suffix)


def draw_masks(
    chosen: Format,
    root: Path,
    dataset: Dataset,
    *,
    files: Sequence[Path],
    images: Sequence[Path],
    target: Path,
    progress: Callable[[int, int], None],
) -> Drawings:
    """Draw the masks of all annotated images into the file `target`."""
    from kubeseg_trainer.tasks.segmentation.data.formats.pack import write_pack

    module = _module(chosen)
    annotations: Annotations = module.read(root, files, images, dataset.splits)
    drawn = write_pack(annotations, target, root, progress)
    pairs: list[tuple[Pair, str | None]] = [
        (Pair(stem_of(root, one.image), one.image, target, one.span), one.part) for one in drawn
    ]
    annotations.warnings += [
        Problem(image.relative_to(root).as_posix(), "is in no annotation file: left out", "unnamed")
        for image in images
        if image not in annotations.described
    ]
    return Drawings(annotations.names, pairs, annotations.problems, annotations.warnings)


def parts_of(drawings: Drawings, dataset: Dataset, *, seed: int) -> Parts:
    """The parts as the annotations tell them; without one for validation, a split of the rest."""
    by_part: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for pair, part in sorted(drawings.pairs, key=lambda entry: entry[0].stem):
        by_part[part or "train"].append(pair)
    train, validation = by_part["train"], by_part["validation"]
    if not validation and not (drawings.problems and len(train) < 2):
        train, validation = divide(train, test_size=dataset.test_size, seed=seed)
    elif not train and not drawings.problems:
        raise DatasetError(f'data set "{dataset.name}": its annotations have no training part')
    return Parts(train, validation, drawings.problems, [], by_part["test"])
