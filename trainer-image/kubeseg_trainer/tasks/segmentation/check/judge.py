"""From what the files showed to what it means for a training: no file is touched here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kubeseg_trainer.tasks.segmentation.check.look import Look
from kubeseg_trainer.tasks.segmentation.check.report import ClassShare
from kubeseg_trainer.tasks.segmentation.data.class_map import ClassMap, label_problem
from kubeseg_trainer.tasks.segmentation.data.dataset import SHOWN, Problem
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_types.spec import Dataset

#: Sides of the coarsest features that smp's encoders make of one pixel of them.
COARSEST = 32

TRAIN, VALIDATION, TEST = "train", "validation", "test"
Looks = Mapping[str, Sequence[Look]]


def file_errors(looks: Looks) -> list[Problem]:
    """What keeps pairs from being read."""
    return [
        Problem(*look.problem)
        for part in looks.values()
        for look in part
        if look.problem is not None
    ]


def label_errors(looks: Looks, dataset: Dataset, known: ClassMap) -> list[Problem]:
    """Masks with labels or colours that stand for no class."""
    found = []
    for look in (look for part in looks.values() for look in part):
        wrong = label_problem(look.values, dataset, known)
        if wrong:
            found.append(Problem(look.mask, wrong, "label"))
    return found


def duplicates(looks: Looks) -> list[Problem]:
    """Pictures of the validation or test part that are trained on, too, byte for byte."""
    seen = {look.digest: look.image for look in looks[TRAIN] if look.digest}
    return [
        Problem(
            look.image,
            f"is the same picture as {seen[look.digest]}, which is trained on: scores of the "
            f"{part} part are too good",
            "duplicate",
        )
        for part in (VALIDATION, TEST)
        for look in looks[part]
        if look.digest in seen
    ]


def too_small(looks: Looks, *, image_size: int, crop: bool) -> list[Problem]:
    """Images smaller than the network's coarsest features, or, of Crop, than the window."""
    least = image_size if crop else COARSEST
    why = (
        f"smaller than the window of {image_size} (spec.training.imageSize), which is padded"
        if crop
        else f"with a side below {COARSEST} pixels: the network's coarsest features see one pixel"
    )
    return [
        Problem(look.image, f"is {look.facts.width}×{look.facts.height}, {why}", "small")
        for part in looks.values()
        for look in part
        if look.facts is not None and min(look.facts.width, look.facts.height) < least
    ]


def labels_of(look: Look, known: ClassMap, ignore_index: int | None) -> Counter[int]:
    """Pixels of each label, VOID included."""
    table = dict(known.labels) if known.labels is not None else None
    counts: Counter[int] = Counter()
    for value, number in zip(look.values, look.pixels, strict=True):
        if table is not None:
            counts[table.get(value, VOID)] += number
        else:
            counts[VOID if value == ignore_index else value] += number
    return counts


@dataclass(frozen=True)
class Shares:
    """How often the classes occur."""

    classes: list[ClassShare]
    #: Share of the training part's pixels that count nowhere.
    void: float


def shares(looks: Looks, known: ClassMap, ignore_index: int | None) -> Shares:
    """Pixels of each class in the training part, and images that show it in each part."""
    pixels: Counter[int] = Counter()
    images: dict[str, Counter[int]] = {part: Counter() for part in looks}
    for part, some in looks.items():
        for look in some:
            counts = labels_of(look, known, ignore_index)
            images[part].update(counts.keys())
            if part == TRAIN:
                pixels.update(counts)
    counted = sum(number for label, number in pixels.items() if label != VOID)
    total = counted + pixels[VOID]
    return Shares(
        [
            ClassShare(
                name,
                pixels[label],
                pixels[label] / counted if counted else 0.0,
                {part: seen[label] for part, seen in images.items() if looks[part]},
            )
            for label, name in enumerate(known.names)
        ],
        pixels[VOID] / total if total else 0.0,
    )


def label_gaps(looks: Looks, dataset: Dataset, known: ClassMap) -> tuple[Problem | None, set[str]]:
    """Labels below the highest that no mask has, where the labels alone make the classes: one
    sentence on all of them, and the names of these classes.
    """
    if dataset.classes or known.labels is not None:
        return None, set()
    masks = [look for part in looks.values() for look in part]
    there = {value for look in masks for value in look.values} | {dataset.ignore_index}
    gaps = [label for label in range(len(known.names)) if label not in there]
    if not gaps:
        return None, set()
    top = len(known.names) - 1
    first, *others = sorted(look.mask for look in masks if top in look.values)
    has = f"alone has label {top}"
    if others:
        more = f"{len(others)} others do" if len(others) > 1 else "1 other does"
        has = f"has label {top}, as {more}"
    text = (
        f"{has}: that makes {top + 1} classes, of which {_ranges(gaps)} are in no image. Say in "
        f"spec.dataset.classes which value stands for which class"
    )
    if not others:
        text += f", or set spec.dataset.ignoreIndex: {top}, or mend the mask"
    return Problem(first, text, "gap"), {known.names[label] for label in gaps}


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as text: 1–9, 11, 13–19."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    shown = ["–".join(map(str, run)) for run in runs[:SHOWN]]
    return ", ".join(shown) + (", …" if len(runs) > SHOWN else "")


def missing_classes(found: Sequence[ClassShare], but: Collection[str]) -> list[Problem]:
    """Classes that the training or the validation part doesn't show, `but` for some."""
    problems = []
    for share in found:
        if share.name in but:
            continue
        gaps = [part for part in (TRAIN, VALIDATION) if not share.images.get(part)]
        if gaps == [VALIDATION]:
            text = f'class "{share.name}" is in no validation image: nothing says how well it does'
            problems.append(Problem("", text, "class"))
        elif gaps:
            where = "no training image" if gaps == [TRAIN] else "no image"
            problems.append(Problem("", f'class "{share.name}" is in {where}', "class"))
    return problems


@dataclass(frozen=True)
class Moments:
    """Of the channels of the training part, where the type's full range is 0 to 1."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    measured: int


def moments(looks: Sequence[Look]) -> Moments:
    """Mean and deviation over all pixels of the images that were measured."""
    some = [
        (look, look.facts.width * look.facts.height) for look in looks if look.mean and look.facts
    ]
    if not some:
        return Moments(None, None, 0)
    total = sum(weight for _, weight in some)
    channels = range(len(some[0][0].mean))
    mean = [sum(look.mean[c] * weight for look, weight in some) / total for c in channels]
    square = [sum(look.square[c] * weight for look, weight in some) / total for c in channels]
    std = [math.sqrt(max(0.0, s - m * m)) for s, m in zip(square, mean, strict=True)]
    return Moments(tuple(mean), tuple(std), len(some))
