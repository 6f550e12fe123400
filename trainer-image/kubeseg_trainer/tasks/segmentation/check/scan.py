"""The check of a data set before training: every file is looked at. Without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.check import judge
from kubeseg_trainer.tasks.segmentation.check.kept import (
    Found,
    fingerprint_of,
    keep,
    pack_file,
    recall,
)
from kubeseg_trainer.tasks.segmentation.check.look import Look, Wanted, look_at
from kubeseg_trainer.tasks.segmentation.check.report import Report
from kubeseg_trainer.tasks.segmentation.data.class_map import (
    ClassMap,
    annotated_class_map,
    class_map,
    has_colors,
    refuse_classes,
)
from kubeseg_trainer.tasks.segmentation.data.dataset import (
    Pair,
    Parts,
    Problem,
    find_data_set,
)
from kubeseg_trainer.tasks.segmentation.data.formats.folders import find_parts
from kubeseg_trainer.tasks.segmentation.data.reading import Decoding
from kubeseg_types.spec import Dataset
from kubeseg_types.trainer import TrainerConfig

CHECK_FILE = "check.json"
#: Images of a folder that mean and deviation are measured on: enough for three digits.
MEASURED = 500

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Statistics:
    """Of the training part."""

    #: Pixels of each class, without the ignored ones.
    class_pixels: tuple[int, ...]
    #: Of each channel, where the type's full range is 0 to 1; None: not measured.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    #: Bits of a channel: 8, or 16 where any image has 16.
    bits: int = 8


@dataclass(frozen=True)
class Checked:
    """A data set that can be trained on."""

    parts: Parts
    class_names: list[str]
    #: Of everything that a decoded sample depends on: files (path, size, time of change), decoding,
    #: and which sample is at which position.
    fingerprint: str
    decoding: Decoding
    statistics: Statistics
    #: Of which sample is at which position, whatever the files hold.
    order: str = ""
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Purpose:
    """What the data set is to be used for, as far as a check depends on it."""

    seed: int
    in_channels: int = 3
    image_size: int = 512
    image_mode: Literal["Resize", "Crop"] = "Resize"

    @classmethod
    def of(cls, config: TrainerConfig) -> Purpose:
        """Of the training that `config` describes."""
        training = config.training
        return cls(
            training.seed, config.model.in_channels, training.image_size, training.image_mode
        )


@dataclass(frozen=True)
class Material:
    """A data set's samples, and what its files showed."""

    parts: Parts
    found: Found
    format: str
    fingerprint: str
    kept: bool


def gather(
    workspace: Path, root: Path, dataset: Dataset, purpose: Purpose, progress: Progress
) -> Material:
    """Find the samples of the data set at `root`, and look at each, unless that is kept."""
    # Here, since it imports the library of a format only where that is used.
    from kubeseg_trainer.tasks.segmentation.data.formats.choice import choose_format

    wanted = Wanted(purpose.in_channels, has_colors(dataset))
    chosen = choose_format(root, dataset)
    if chosen != "Folders":
        return _gather_annotated(workspace, root, dataset, purpose, progress)
    parts = find_parts(root, dataset, seed=purpose.seed)
    pairs = parts.all_pairs()
    files = [path for pair in pairs for path in (pair.image, pair.mask)]
    fingerprint = fingerprint_of(root, files, dataset.name, wanted.channels, wanted.colors)
    found = recall(workspace, fingerprint, root)
    if found is not None:
        return Material(parts, found, chosen, fingerprint, True)
    found = Found(look_at_all(pairs, root, wanted, progress))
    keep(workspace, fingerprint, dataset.name, root, found)
    return Material(parts, found, chosen, fingerprint, False)


def _gather_annotated(
    workspace: Path, root: Path, dataset: Dataset, purpose: Purpose, progress: Progress
) -> Material:
    from kubeseg_trainer.tasks.segmentation.data.formats import choice
    from kubeseg_trainer.tasks.segmentation.data.formats.annotations import images_below

    chosen = choice.choose_format(root, dataset)
    files, images = choice.annotation_files(chosen, root, dataset), images_below(root)
    splits = dataset.splits.to_dict() if dataset.splits else None
    settings = (dataset.name, purpose.in_channels, chosen, splits)
    fingerprint = fingerprint_of(root, [*files, *images], *settings)
    found = recall(workspace, fingerprint, root)
    kept = found is not None
    if found is None or found.drawings is None:
        target = pack_file(workspace, fingerprint)
        drawings = choice.draw_masks(
            chosen,
            root,
            dataset,
            files=files,
            images=images,
            target=target,
            progress=progress,
        )
        pairs = [pair for pair, _ in drawings.pairs]
        wanted = Wanted(purpose.in_channels, colors=False)
        found = Found(look_at_all(pairs, root, wanted, progress), drawings)
        keep(workspace, fingerprint, dataset.name, root, found)
    assert found.drawings is not None
    parts = choice.parts_of(found.drawings, dataset, seed=purpose.seed)
    return Material(parts, found, chosen, fingerprint, kept)


def look_at_all(
    pairs: Sequence[Pair], root: Path, wanted: Wanted, progress: Progress
) -> list[Look]:
    """A look at each pair, in threads: decoders let others run meanwhile."""
    measured = _measured(pairs)
    sizes = Counter(pair.image.stat().st_size for pair in pairs)

    def look(pair: Pair) -> Look:
        # Files of different sizes can't be the same: most need not be read for it.
        twin = sizes[pair.image.stat().st_size] > 1
        return look_at(pair, root, wanted, measure=pair.image in measured, digest=twin)

    looks = []
    with ThreadPoolExecutor(max_workers=min(16, 2 * (os.cpu_count() or 1))) as pool:
        try:
            for found in pool.map(look, pairs):
                looks.append(found)
                progress(len(looks), len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return looks


def _measured(pairs: Iterable[Pair]) -> set[Path]:
    """Of each folder, MEASURED images at most: which ones depends on their names."""
    folders: dict[Path, list[Path]] = {}
    for pair in pairs:
        folders.setdefault(pair.image.parent, []).append(pair.image)
    return {
        image
        for images in folders.values()
        for image in sorted(images, key=lambda i: hashlib.sha256(i.name.encode()).digest())[
            :MEASURED
        ]
    }


def _order(parts: Parts) -> str:
    names = "\n".join(
        f"{part}/{pair.stem}"
        for part, pairs in (("train", parts.train), ("val", parts.validation), ("test", parts.test))
        for pair in pairs
    )
    return hashlib.sha256(names.encode()).hexdigest()


def examine(
    workspace: Path, dataset: Dataset, purpose: Purpose, *, progress: Progress
) -> tuple[Report, Checked | None]:
    """The report on the data set, and what a training needs of it; None where it has errors.

    `progress(done, total)` is called after each file and may raise to break off. DatasetError and
    ConfigurationError where there is nothing to report on.
    """
    refuse_classes(dataset)
    root = find_data_set(workspace, dataset.name)
    material = gather(workspace, root, dataset, purpose, progress)
    parts, drawings = material.parts, material.found.drawings
    by_image = {look.image: look for look in material.found.looks}

    def looks_of(pairs: Sequence[Pair]) -> list[Look]:
        return [by_image[pair.image.relative_to(root).as_posix()] for pair in pairs]

    looks = {
        judge.TRAIN: looks_of(parts.train),
        judge.VALIDATION: looks_of(parts.validation),
        judge.TEST: looks_of(parts.test),
    }
    report = Report(
        dataset.name,
        material.format,
        material.fingerprint,
        {part: len(some) for part, some in looks.items()},
        errors=[*parts.problems, *judge.file_errors(looks)],
        warnings=[Problem(name, "has no image: left out", "surplus") for name in parts.surplus],
        kept=material.kept,
    )
    if drawings is not None:
        report.warnings += drawings.warnings
    known = _classes(looks, dataset, drawings.names if drawings else None, report)
    _describe(report, looks, purpose)
    if known is None:
        return report, None
    report.errors += judge.label_errors(looks, dataset, known)
    if report.errors:
        return report, None
    shares = judge.shares(looks, known, dataset.ignore_index)
    report.classes, report.void = shares.classes, shares.void
    index = dataset.ignore_index
    ignored = {known.names[index]} if index is not None and index < len(known.names) else set()
    gap, unused = judge.label_gaps(looks, dataset, known)
    if gap is not None:
        report.warnings.append(gap)
    report.warnings += judge.missing_classes(shares.classes, ignored | unused)
    order = _order(parts)
    decoding = Decoding(
        channels=purpose.in_channels,
        ignore_index=dataset.ignore_index,
        bits=report.bits,
        labels=known.labels,
        colors=known.colors,
    )
    whole = json.dumps([material.fingerprint, order, repr(decoding)])
    return report, Checked(
        parts,
        known.names,
        hashlib.sha256(whole.encode()).hexdigest(),
        decoding,
        Statistics(
            tuple(share.pixels for share in shares.classes), report.mean, report.std, report.bits
        ),
        order,
        tuple(report.warnings),
    )


def _classes(
    looks: judge.Looks, dataset: Dataset, annotated: list[str] | None, report: Report
) -> ClassMap | None:
    """The classes; None where there are none to tell, which `report` then says."""
    found = {value for part in looks.values() for look in part for value in look.values}
    try:
        if annotated is None:
            return class_map(found, dataset)
        known, left = annotated_class_map(annotated, dataset)
    except DatasetError as error:
        if not report.errors:
            report.errors.append(Problem("", str(error), "class"))
        return None
    if left:
        text = f"{', '.join(left)}: not in spec.dataset.classes, and so background"
        report.warnings.append(Problem("", text, "left"))
    return known


def _describe(report: Report, looks: judge.Looks, purpose: Purpose) -> None:
    """What can be said whatever the classes are."""
    facts = [look.facts for part in looks.values() for look in part if look.facts is not None]
    report.sizes = Counter((fact.width, fact.height) for fact in facts).most_common()
    report.bits = max((fact.bits for fact in facts), default=8)
    moments = judge.moments(looks[judge.TRAIN])
    report.mean, report.std, report.measured = moments.mean, moments.std, moments.measured
    report.warnings += judge.duplicates(looks)
    crop = purpose.image_mode == "Crop"
    report.warnings += judge.too_small(looks, image_size=purpose.image_size, crop=crop)


def check_data_set(
    workspace: Path,
    dataset: Dataset,
    purpose: Purpose,
    *,
    progress: Progress,
    report_folder: Path | None = None,
) -> Checked:
    """The data set, ready to be trained on; DatasetError names all that is wrong, at once.

    As `examine`. With errors, the whole report goes to check.json in `report_folder`.
    """
    report, checked = examine(workspace, dataset, purpose, progress=progress)
    if checked is not None:
        return checked
    where = None if report_folder is None else leave_list(report, report_folder, workspace)
    raise DatasetError(report.sentence(where))


def leave_list(report: Report, folder: Path, workspace: Path) -> str:
    """Write the whole report to check.json in `folder`; its path below `workspace`."""
    file = folder / CHECK_FILE
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    file.write_text(text, encoding="utf-8")
    return file.relative_to(workspace).as_posix()
