"""Which class a value or colour stands for, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.tasks.segmentation.data.class_map import (
    annotated_class_map,
    class_map,
    label_problem,
    refuse_classes,
)
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.data.masks import mapped
from kubeseg_types.spec import Dataset

AB = [{"name": "a"}, {"name": "b"}]
COLORS = [{"name": "a", "color": "#000000"}, {"name": "b", "color": "#00FF10"}]
OBJECT = [{"name": "a"}, {"name": "b", "value": 255}]
VALUES = [{"name": "a", "value": 7}, {"name": "b", "value": 300}]


def _dataset(**more: Any) -> Dataset:
    return Dataset.model_validate({"name": "d", **more})


@pytest.mark.parametrize(
    ("found", "dataset", "names", "labels"),
    [
        ({0, 1}, {}, ["0", "1"], None),
        ({0, 3}, {}, ["0", "1", "2", "3"], None),
        ({0, 1, 11}, {"ignoreIndex": 11}, ["0", "1"], None),
        ({0, 1}, {"classes": AB}, ["a", "b"], None),
        ({0, 255}, {}, ["background", "object"], ((0, 0), (255, 1))),
        ({0, 255}, {"classes": AB}, ["a", "b"], ((0, 0), (255, 1))),
        ({0, 1, 255}, {"ignoreIndex": 255}, ["0", "1"], None),
        ({7, 300}, {"classes": VALUES}, ["a", "b"], ((7, 0), (300, 1))),
        ({7, 9}, {"classes": VALUES, "ignoreIndex": 9}, ["a", "b"], ((7, 0), (9, 255), (300, 1))),
        ({0}, {"classes": COLORS}, ["a", "b"], ((0, 0), (0x00FF10, 1))),
        ({0}, {"classes": COLORS, "ignoreIndex": 0}, ["a", "b"], ((0, 255), (0x00FF10, 1))),
        (
            {0, 255},
            {"classes": [AB[0], {"name": "b", "value": 255}]},
            ["a", "b"],
            ((0, 0), (255, 1)),
        ),
    ],
)
def test_what_masks_hold_becomes_classes(
    found: set[int], dataset: dict[str, Any], names: list[str], labels: Any
) -> None:
    known = class_map(found, _dataset(**dataset))
    assert known.names == names
    assert known.labels == labels
    assert known.colors == (dataset.get("classes") is COLORS)


@pytest.mark.parametrize(
    ("found", "ignore"), [({0}, None), ({255}, 255), ({0, 5}, 5), (set(), None)]
)
def test_one_class_is_too_few(found: set[int], ignore: int | None) -> None:
    with pytest.raises(DatasetError, match="at least 2 classes are needed"):
        class_map(found, _dataset(ignoreIndex=ignore))


@pytest.mark.parametrize(
    ("labels", "dataset", "sentence"),
    [
        ((0, 1, 2), {}, None),
        ((0, 1, 11), {"ignoreIndex": 11}, None),
        ((0, 1, 255), {"ignoreIndex": 255}, None),
        ((0, 255), {}, None),
        ((0, 1, 255), {}, "has label 255, classes end at 254: if it is void"),
        ((0, 2), {"classes": AB}, "has label 2, the class map ends at 1"),
        ((0, 2), {"classes": AB, "ignoreIndex": 2}, None),
        ((7, 8, 9), {"classes": VALUES}, "has the label 8, 9, which is none of the class map's"),
        ((0, 0x00FF11), {"classes": COLORS}, "has the colour #00ff11, which is none"),
    ],
)
def test_labels_against_the_class_map(
    labels: tuple[int, ...], dataset: dict[str, Any], sentence: str | None
) -> None:
    wanted = _dataset(**dataset)
    problem = label_problem(labels, wanted, class_map(labels, wanted))
    assert (problem is None) if sentence is None else (problem is not None and sentence in problem)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ([COLORS[0], AB[1]], "all have a color or none has; 'b' has none"),
        ([{**COLORS[0], "value": 1}, COLORS[1]], "not both"),
        ([AB[0], AB[0]], "two have the name a"),
        ([COLORS[0], {"name": "b", "color": "#000000"}], "two have the color #000000"),
        ([AB[0], {"name": "b", "value": 0}], "two have the value 0"),
        ([{"name": f"c{n}"} for n in range(256)], "must be at most 255, not 256"),
    ],
)
def test_a_list_that_contradicts_itself(classes: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=r"spec\.dataset\.classes: ") as caught:
        refuse_classes(_dataset(classes=classes))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_values_that_are_not_in_the_table_are_void(dtype: Any) -> None:
    raw = np.array([[0, 7, 8, 255]], dtype)
    assert mapped(raw, ((0, 1), (7, 0), (70000, 2))).tolist() == [[1, 0, VOID, VOID]]


def test_annotations_of_too_many_classes_are_refused_unless_some_are_picked() -> None:
    names = ["background", *(f"c{n}" for n in range(300))]
    with pytest.raises(DatasetError, match="it has 301 classes, at most 255"):
        annotated_class_map(names, _dataset())
    known, left = annotated_class_map(names, _dataset(classes=[AB[0], {"name": "c299"}]))
    assert dict(known.labels or ())[300] == 1
    assert len(left) == 299
