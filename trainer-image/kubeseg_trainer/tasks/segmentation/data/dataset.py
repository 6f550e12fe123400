"""A data set in the workspace: where it is, and the samples that it is made of."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.masks import Span
from kubeseg_types import workspace

IMAGES, MASKS = "images", "masks"
#: What names a data set's folder as one, and not as an owner's.
_SIGNS = frozenset({IMAGES, "train", "JPEGImages", "annotations"})
_SIGN_SUFFIXES = frozenset({".json", ".xml", ".yaml", ".yml"})
#: Items that a sentence names; it counts the others.
SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    stem: str
    image: Path
    mask: Path
    #: Where the mask lies in `mask`, if that is a pack of masks drawn from annotations.
    span: Span | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file (relative to the data set), or with all of it (no file)."""

    file: str
    text: str
    #: One word on what kind of problem it is: reports name a few of each.
    kind: str = "file"


@dataclass(frozen=True)
class Parts:
    """A data set as it is trained on."""

    train: list[Pair]
    validation: list[Pair]
    problems: list[Problem]
    #: Masks without an image: no harm, but perhaps a mistake.
    surplus: list[str]
    #: Evaluated once at the end; empty where the data set has no such part.
    test: list[Pair] = field(default_factory=list)

    def all_pairs(self) -> list[Pair]:
        """Every pair, by part."""
        return [*self.train, *self.validation, *self.test]


def shorten(items: Sequence[str], rest: str = "") -> str:
    """A few of `items`, the others by number; `rest` says where to find those."""
    more = len(items) - SHOWN
    return "; ".join(items[:SHOWN]) + (f" (+{more} more{rest})" if more > 0 else "")


def summarize(name: str, total: int, problems: Sequence[Problem], report: str | None) -> str:
    """One sentence on all problems of `total` pairs: a few files by name, the rest by number."""
    shown = shorten(
        [f"{p.file} {p.text}".strip() for p in problems], f" in {report}" if report else ""
    )
    files = {p.file for p in problems if p.file}
    count = f"{len(files)} of {total} images with masks can't be used: " if files else ""
    return f'data set "{name}": {count}{shown}'


def _is_data_set(folder: Path) -> bool:
    return any(
        path.name in _SIGNS if path.is_dir() else path.suffix.lower() in _SIGN_SUFFIXES
        for path in folder.iterdir()
    )


def _data_sets(root: Path) -> list[str]:
    """Names of the data sets below `root`, as far as two folders deep."""
    names = []
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        if _is_data_set(folder):
            names.append(folder.name)
        else:
            inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
            names += [f"{folder.name}/{name}" for name in inner]
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
