"""A data set in the workspace: where its images and masks are, and what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from kubeseg_trainer.tasks.segmentation.split import split_stems
from kubeseg_types import workspace
from kubeseg_types.spec import Dataset

IMAGES, MASKS = "images", "masks"
_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    stem: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Problem:
    """Why a file can't be used; `file` is relative to the data set."""

    file: str
    text: str


@dataclass
class Listing:
    """Pairs of one folder, and what keeps others from being one."""

    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    #: Masks without an image: no harm, but perhaps a mistake.
    surplus: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """A data set as it is trained on."""

    train: list[Pair]
    validation: list[Pair]
    problems: list[Problem]
    surplus: list[str]


def summarize(name: str, total: int, problems: Sequence[Problem], report: str | None) -> str:
    """One sentence on all problems of `total` pairs: a few files by name, the rest by number."""
    shown = "; ".join(f"{p.file} {p.text}" for p in problems[:_SHOWN])
    rest = len(problems) - _SHOWN
    more = f" (+{rest} more{f' in {report}' if report else ''})" if rest > 0 else ""
    return (
        f'data set "{name}": {len(problems)} of {total} images with masks can\'t be used: '
        f"{shown}{more}"
    )


def _data_sets(root: Path) -> list[str]:
    """Names of the data sets below `root`, as far as two folders deep."""
    names = []
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        inner = [path.name for path in folder.iterdir() if path.is_dir()]
        if {IMAGES, "train"} & set(inner):
            names.append(folder.name)
        else:
            names += [f"{folder.name}/{name}" for name in sorted(inner)]
    return names


def find_data_set(root: Path, name: str) -> Path:
    """Folder of the data set `name` in the workspace `root`; DatasetError names those there are."""
    wrong = workspace.dataset_name_error(name)
    if wrong:
        raise DatasetError(f"spec.dataset.name: {wrong}")
    folder = root / workspace.dataset_dir(name)
    if folder.is_dir():
        return folder
    there = _data_sets(root / workspace.DATASETS)
    near = difflib.get_close_matches(name, there, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    listed = ", ".join(there[:10]) + (f" (+{len(there) - 10} more)" if len(there) > 10 else "")
    raise DatasetError(
        f'there is no data set "{name}" in the workspace.{hint} There: {listed or "none"}. '
        f"Upload it, or put it at {workspace.dataset_dir(name)}/ with {IMAGES}/ and {MASKS}/"
    )


def _by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    return found


def list_pairs(root: Path, folder: Path) -> Listing:
    """Pairs in `folder` (images/ and masks/) of the data set at `root`, sorted by stem."""
    place = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    for kind, suffixes in ((IMAGES, IMAGE_SUFFIXES), (MASKS, MASK_SUFFIXES)):
        if not (folder / kind).is_dir():
            raise DatasetError(
                f'data set "{root.name}" has no folder {place}{kind}/: it needs {IMAGES}/ and '
                f"{MASKS}/, or train/ and val/ with those inside"
            )
        if not _by_stem(folder / kind, suffixes):
            raise DatasetError(
                f'data set "{root.name}" has no {kind} in {place}{kind}/: it needs files that end '
                f"in {', '.join(sorted(suffixes))}"
            )
    images = _by_stem(folder / IMAGES, IMAGE_SUFFIXES)
    masks = _by_stem(folder / MASKS, MASK_SUFFIXES)
    listing = Listing()
    for stem, files in images.items():
        name = f"{place}{IMAGES}/{files[0].name}"
        found = masks.get(stem, [])
        twice = files if len(files) > 1 else found
        if not found:
            text = f"has no mask: {place}{MASKS}/{stem}.png is missing"
            listing.problems.append(Problem(name, text))
        elif len(twice) > 1:
            others = ", ".join(path.name for path in twice)
            text = f"is not the only one of its name: {others} share the stem {stem!r}"
            listing.problems.append(Problem(name, text))
        else:
            listing.pairs.append(Pair(stem, files[0], found[0]))
    listing.surplus = [
        f"{place}{MASKS}/{files[0].name}" for stem, files in masks.items() if stem not in images
    ]
    return listing


def find_parts(folder: Path, dataset: Dataset, *, seed: int) -> Parts:
    """Training and validation pairs of the data set at `folder`."""
    splits = dataset.splits
    names = (splits.train, splits.validation) if splits else ("train", "val")
    own = splits is not None or all((folder / name).is_dir() for name in names)
    if own:
        for name in names:
            if not (folder / name).is_dir():
                raise DatasetError(
                    f'data set "{dataset.name}" has no folder {name}/, which '
                    f"spec.dataset.splits names"
                )
        train, validation = (list_pairs(folder, folder / name) for name in names)
        for name, listing in zip(names, (train, validation), strict=True):
            if not listing.pairs and not listing.problems:
                raise DatasetError(f'data set "{dataset.name}": {name}/ has no image with a mask')
        return Parts(
            train.pairs,
            validation.pairs,
            train.problems + validation.problems,
            train.surplus + validation.surplus,
        )
    listing = list_pairs(folder, folder)
    if listing.problems and len(listing.pairs) < 2:
        return Parts(listing.pairs, [], listing.problems, listing.surplus)
    by_stem = {pair.stem: pair for pair in listing.pairs}
    first, second = split_stems(list(by_stem), test_size=dataset.test_size, seed=seed)
    return Parts(
        [by_stem[stem] for stem in first],
        [by_stem[stem] for stem in second],
        listing.problems,
        listing.surplus,
    )
