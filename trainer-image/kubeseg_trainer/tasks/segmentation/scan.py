"""The look at every file before training: sizes, labels, what is broken. Without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.dataset import (
    Pair,
    Parts,
    Problem,
    find_data_set,
    find_parts,
    summarize,
)
from kubeseg_trainer.tasks.segmentation.images import (
    VOID,
    UnreadableError,
    check_image,
    read_labels,
)
from kubeseg_types.spec import Dataset

CHECK_FILE = "check.json"
#: Above it, a single wrong pixel would make hundreds of classes.
MAX_LABEL = 254

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """What one pair showed."""

    pair: Pair
    problems: tuple[Problem, ...]
    #: Labels in the mask, sorted.
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Checked:
    """A data set that can be trained on."""

    parts: Parts
    class_names: list[str]
    fingerprint: str


def look_at(pair: Pair, root: Path) -> Look:
    """What the files of `pair` are, or why they can't be used."""
    image_name = pair.image.relative_to(root).as_posix()
    mask_name = pair.mask.relative_to(root).as_posix()
    try:
        size = check_image(pair.image)
    except UnreadableError as error:
        return Look(pair, (Problem(image_name, str(error)),))
    try:
        labels = read_labels(pair.mask)
    except UnreadableError as error:
        return Look(pair, (Problem(mask_name, str(error)),))
    mask_size = (labels.shape[1], labels.shape[0])
    if mask_size != size:
        text = f"is {mask_size[0]}×{mask_size[1]}, its image {size[0]}×{size[1]}"
        return Look(pair, (Problem(mask_name, text),))
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > VOID:
        return Look(pair, (Problem(mask_name, f"has label {highest}, masks end at {VOID}"),))
    found = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    return Look(pair, (), tuple(int(label) for label in found))


def label_problem(labels: Sequence[int], dataset: Dataset) -> str | None:
    """What is wrong with the labels of a mask, or None."""
    counted = [label for label in labels if label != dataset.ignore_index]
    limit = len(dataset.classes) - 1 if dataset.classes else MAX_LABEL
    above = [label for label in counted if label > limit]
    if not above:
        return None
    if dataset.classes:
        return f"has label {above[0]}, the class map ends at {limit}"
    if set(counted) <= {0, VOID}:
        return (
            "has only the labels 0 and 255: write 1 for the object, or, if 255 is void, set "
            "spec.dataset.ignoreIndex: 255"
        )
    return (
        f"has label {above[0]}, classes end at {MAX_LABEL}: if it is void, set "
        f"spec.dataset.ignoreIndex: {above[0]}"
    )


def class_names(found: set[int], dataset: Dataset) -> list[str]:
    """Names of the classes: as given, else the labels from 0 to the highest found."""
    if dataset.classes:
        return [entry.name for entry in dataset.classes]
    counted = found - {dataset.ignore_index}
    count = max(counted, default=-1) + 1
    if count < 2:
        raise DatasetError(
            f'data set "{dataset.name}": its masks hold {sorted(counted)} besides the ignored '
            f"label; at least 2 classes are needed (labels 0 and 1), or name them in "
            f"spec.dataset.classes"
        )
    return [str(label) for label in range(count)]


def _fingerprint(parts: Parts) -> str:
    names = "\n".join(
        f"{part}/{pair.stem}"
        for part, pairs in (("train", parts.train), ("val", parts.validation))
        for pair in pairs
    )
    return hashlib.sha256(names.encode()).hexdigest()


def check_data_set(
    workspace_root: Path,
    dataset: Dataset,
    *,
    seed: int,
    progress: Progress,
    report_folder: Path | None = None,
) -> Checked:
    """Look at every file of the data set; DatasetError names all that is wrong, at once.

    `progress(done, total)` is called after each pair and may raise to break off. The full list of
    problems goes to check.json in `report_folder`.
    """
    if dataset.classes and len(dataset.classes) > MAX_LABEL + 1:
        raise DatasetError(
            f"spec.dataset.classes: must be at most {MAX_LABEL + 1}, not {len(dataset.classes)}"
        )
    root = find_data_set(workspace_root, dataset.name)
    parts = find_parts(root, dataset, seed=seed)
    pairs = [*parts.train, *parts.validation]
    problems = list(parts.problems)
    found: set[int] = set()
    with ThreadPoolExecutor(max_workers=min(16, 2 * (os.cpu_count() or 1))) as pool:
        try:
            for done, look in enumerate(pool.map(lambda pair: look_at(pair, root), pairs), 1):
                problems += look.problems
                found |= set(look.labels)
                wrong = label_problem(look.labels, dataset)
                if wrong:
                    problems.append(Problem(look.pair.mask.relative_to(root).as_posix(), wrong))
                progress(done, len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if problems:
        total = len(pairs) + len(parts.problems)
        _report(report_folder, dataset, problems, workspace_root, total)
    return Checked(parts, class_names(found, dataset), _fingerprint(parts))


def _report(
    folder: Path | None,
    dataset: Dataset,
    problems: list[Problem],
    workspace_root: Path,
    total: int,
) -> None:
    where = None
    if folder is not None:
        file = folder / CHECK_FILE
        document = {
            "dataset": dataset.name,
            "problems": [{"file": p.file, "problem": p.text} for p in problems],
        }
        file.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
        where = file.relative_to(workspace_root).as_posix()
    raise DatasetError(summarize(dataset.name, total, problems, where))
