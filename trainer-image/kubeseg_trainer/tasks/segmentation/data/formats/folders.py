"""Images and masks in folders, matched by stem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import IMAGES, MASKS, Pair, Parts, Problem
from kubeseg_trainer.tasks.segmentation.data.images import IMAGE_SUFFIXES
from kubeseg_trainer.tasks.segmentation.data.masks import MASK_SUFFIXES
from kubeseg_trainer.tasks.segmentation.data.split import divide
from kubeseg_types.spec import Dataset

#: What the folder of the validation part may be called where spec.dataset.splits doesn't say.
VALIDATION = ("val", "valid", "validation")


@dataclass
class Listing:
    """Pairs of one folder, and what keeps others from being one."""

    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)


def _by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    return found


def list_pairs(root: Path, folder: Path) -> Listing:
    """Pairs in `folder` (images/ and masks/) of the data set at `root`, sorted by stem."""
    place = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    found = {}
    for kind, suffixes in ((IMAGES, IMAGE_SUFFIXES), (MASKS, MASK_SUFFIXES)):
        if not (folder / kind).is_dir():
            raise DatasetError(
                f'data set "{root.name}" has no folder {place}{kind}/: it needs {IMAGES}/ and '
                f"{MASKS}/, or train/ and val/ with those inside, or the files of COCO, Pascal "
                f"VOC, CVAT or YOLO"
            )
        found[kind] = _by_stem(folder / kind, suffixes)
        if not found[kind]:
            raise DatasetError(
                f'data set "{root.name}" has no {kind} in {place}{kind}/: it needs files that end '
                f"in {', '.join(sorted(suffixes))}"
            )
    images, masks = found[IMAGES], found[MASKS]
    listing = Listing()
    for stem, files in images.items():
        name = f"{place}{IMAGES}/{files[0].name}"
        fitting = masks.get(stem, [])
        twice = files if len(files) > 1 else fitting
        if not fitting:
            text = f"has no mask: {place}{MASKS}/{stem}.png is missing"
            listing.problems.append(Problem(name, text, "pair"))
        elif len(twice) > 1:
            others = ", ".join(path.name for path in twice)
            text = f"is not the only one of its name: {others} share the stem {stem!r}"
            listing.problems.append(Problem(name, text, "pair"))
        else:
            listing.pairs.append(Pair(stem, files[0], fitting[0]))
    listing.surplus = [
        f"{place}{MASKS}/{files[0].name}" for stem, files in masks.items() if stem not in images
    ]
    return listing


def _folders(folder: Path, dataset: Dataset) -> tuple[str | None, str | None, str | None]:
    """Names of the folders of training, validation and test part; None where there is none."""
    splits = dataset.splits
    if splits is None:
        if not (folder / "train").is_dir():
            return None, None, None
        validation = next((name for name in VALIDATION if (folder / name).is_dir()), None)
        return "train", validation, "test" if (folder / "test").is_dir() else None
    if splits.validation == splits.train or splits.test in (splits.train, splits.validation):
        raise ConfigurationError("spec.dataset.splits: each part must be a folder of its own")
    for name in (splits.train, splits.validation, splits.test):
        if name is not None and not (folder / name).is_dir():
            raise DatasetError(
                f'data set "{dataset.name}" has no folder {name}/, which spec.dataset.splits names'
            )
    return splits.train, splits.validation, splits.test


def find_parts(folder: Path, dataset: Dataset, *, seed: int) -> Parts:
    """Training, validation and test pairs of the data set at `folder`.

    Without a folder for validation, a part of the training images becomes it.
    """
    names = _folders(folder, dataset)
    train_name, validation_name, test_name = names
    listings = {name: list_pairs(folder, folder / name) for name in names if name is not None}
    if train_name is None:
        listings[""] = list_pairs(folder, folder)
    for name, listing in listings.items():
        if not listing.pairs and not listing.problems:
            raise DatasetError(
                f'data set "{dataset.name}": {name or "it"}{"/" * bool(name)} has no image with '
                f"a mask"
            )
    first = listings[train_name or ""]
    if validation_name is not None:
        train, validation = first.pairs, listings[validation_name].pairs
    elif first.problems and len(first.pairs) < 2:
        # Too few for a split only because of the problems, which say more.
        train, validation = first.pairs, []
    else:
        train, validation = divide(first.pairs, test_size=dataset.test_size, seed=seed)
    return Parts(
        train,
        validation,
        [problem for listing in listings.values() for problem in listing.problems],
        [name for listing in listings.values() for name in listing.surplus],
        listings[test_name].pairs if test_name is not None else [],
    )
