"""Which class a value or colour in the masks stands for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.tasks.segmentation.data.formats.annotations import BACKGROUND, VOID_VALUE
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_types.spec import Dataset

#: VOID is none; above it, a single wrong pixel would make hundreds of classes.
MAX_LABEL = 254
OBJECT = "object"

Table = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ClassMap:
    """Names by label, and how masks become labels."""

    names: list[str]
    #: As `Decoding.labels`.
    labels: Table | None = None
    colors: bool = False


def refuse_classes(dataset: Dataset) -> None:
    """ConfigurationError where the list of classes contradicts itself."""
    classes = dataset.classes or []
    if len(classes) > MAX_LABEL + 1:
        raise ConfigurationError(
            f"spec.dataset.classes: must be at most {MAX_LABEL + 1}, not {len(classes)}"
        )
    colored = [entry.color is not None for entry in classes]
    if any(colored) and not all(colored):
        missing = next(entry.name for entry in classes if entry.color is None)
        raise ConfigurationError(
            f"spec.dataset.classes: all have a color or none has; {missing!r} has none"
        )
    if any(colored) and any(entry.value is not None for entry in classes):
        raise ConfigurationError(
            "spec.dataset.classes: color is for colour masks, value for index masks: not both"
        )
    values = [position if e.value is None else e.value for position, e in enumerate(classes)]
    stated: tuple[tuple[str, list[str]], ...] = (
        ("name", [entry.name for entry in classes]),
        ("color", [entry.color.lower() for entry in classes if entry.color is not None]),
        ("value", [str(value) for value in values]),
    )
    for field, given in stated:
        twice = sorted({one for one in given if given.count(one) > 1})
        if twice:
            raise ConfigurationError(
                f"spec.dataset.classes: two have the {field} {', '.join(twice)}"
                + (" (without one, it is the position in the list)" if field == "value" else "")
            )


def has_colors(dataset: Dataset) -> bool:
    """Whether masks hold colours, by the list of classes."""
    return bool(dataset.classes) and dataset.classes[0].color is not None  # type: ignore[index]


def is_binary(found: Collection[int], dataset: Dataset) -> bool:
    """Whether masks of 0 and 255 alone show one kind of object (255) on background.

    So it is where 255 is not ignored, and nothing says what stands for a class.
    """
    classes = dataset.classes or []
    silent = not classes or (len(classes) == 2 and all(c.value is None for c in classes))
    return silent and dataset.ignore_index is None and set(found) == {0, VOID}


def class_map(found: Collection[int], dataset: Dataset) -> ClassMap:
    """Classes of masks in which the values `found` occur; DatasetError where they make none."""
    classes = dataset.classes
    if has_colors(dataset):
        assert classes is not None
        table = {int((e.color or "")[1:], 16): label for label, e in enumerate(classes)}
        return ClassMap([e.name for e in classes], _table(table, dataset, by_label=True), True)
    if is_binary(found, dataset):
        names = [entry.name for entry in classes] if classes else [BACKGROUND, OBJECT]
        return ClassMap(names, ((0, 0), (VOID, 1)))
    if classes:
        names = [entry.name for entry in classes]
        if all(entry.value is None for entry in classes):
            return ClassMap(names)
        values = {(label if e.value is None else e.value): label for label, e in enumerate(classes)}
        return ClassMap(names, _table(values, dataset, by_label=False))
    counted = set(found) - {dataset.ignore_index}
    count = max(counted, default=-1) + 1
    if count < 2:
        raise DatasetError(
            f"its masks hold {sorted(counted)} besides the ignored "
            f"label; at least 2 classes are needed (labels 0 and 1), or name them in "
            f"spec.dataset.classes"
        )
    return ClassMap([str(label) for label in range(count)])


def _table(table: dict[int, int], dataset: Dataset, *, by_label: bool) -> Table:
    """`table` with the ignored label (or, for values, the ignored value) as VOID."""
    ignored = dataset.ignore_index
    if by_label:
        table = {value: VOID if label == ignored else label for value, label in table.items()}
    elif ignored is not None:
        table = {**table, ignored: VOID}
    return tuple(sorted(table.items()))


def annotated_class_map(names: Sequence[str], dataset: Dataset) -> tuple[ClassMap, list[str]]:
    """Classes of annotations whose values are positions in `names`, and those left to background.

    The class list picks by name; its first entry is the background. DatasetError names a class
    that the annotations don't know.
    """
    chosen = [entry.name for entry in dataset.classes or []]
    if any(entry.color or entry.value is not None for entry in dataset.classes or []):
        raise ConfigurationError(
            "spec.dataset.classes: color and value are for masks; annotations name their classes"
        )
    left: list[str] = []
    if not chosen:
        if len(names) > MAX_LABEL + 1:
            raise DatasetError(
                f"it has {len(names)} classes, at most {MAX_LABEL + 1} can "
                f"be trained: name those wanted in spec.dataset.classes"
            )
        chosen, table = list(names), {value: value for value in range(len(names))}
    else:
        unknown = [name for name in chosen[1:] if name not in names[1:]]
        if chosen[0] in names[1:]:
            raise DatasetError(
                f"spec.dataset.classes: the first is the background, but {chosen[0]!r} is "
                f"annotated: put {{name: {BACKGROUND}}} before it"
            )
        if unknown:
            raise DatasetError(
                f"it has no class {', '.join(map(repr, unknown))}, which "
                f"spec.dataset.classes names. There: {', '.join(names[1:])}"
            )
        left = [name for name in names[1:] if name not in chosen]
        table = {
            value: chosen.index(name) if value and name in chosen else 0
            for value, name in enumerate(names)
        }
    if len(chosen) < 2:
        raise DatasetError("its annotations name no class")
    labels = {**dict(_table(table, dataset, by_label=True)), VOID_VALUE: VOID}
    return ClassMap(chosen, tuple(sorted(labels.items()))), left


def label_problem(labels: Collection[int], dataset: Dataset, known: ClassMap) -> str | None:
    """What is wrong with the values of a mask, or None."""
    if known.labels is not None:
        strange = sorted(set(labels) - {value for value, _ in known.labels})
        if not strange:
            return None
        shown = ", ".join(_shown(value, known.colors) for value in strange[:3])
        more = f" (+{len(strange) - 3} more)" if len(strange) > 3 else ""
        what = "colour" if known.colors else "label"
        return f"has the {what} {shown}{more}, which is none of the class map's"
    counted = sorted(set(labels) - {dataset.ignore_index})
    limit = len(dataset.classes) - 1 if dataset.classes else MAX_LABEL
    above = [label for label in counted if label > limit]
    if not above:
        return None
    if dataset.classes:
        return f"has label {above[0]}, the class map ends at {limit}"
    return (
        f"has label {above[0]}, classes end at {MAX_LABEL}: if it is void, set "
        f"spec.dataset.ignoreIndex: {above[0]}"
    )


def _shown(value: int, colors: bool) -> str:
    return f"#{value:06x}" if colors else str(value)
