"""Labels that leave gaps, where no list of classes says what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kubeseg_trainer.tasks.segmentation.check.scan import Purpose, examine
from kubeseg_trainer.tasks.segmentation.data.dataset import Problem
from kubeseg_types.spec import Dataset
from tests.support.datasets import make_dataset


def _warnings(workspace: Path, **dataset: Any) -> list[Problem]:
    wanted = Dataset.model_validate({"name": "discs", **dataset})
    purpose = Purpose(seed=0, image_size=32)
    return examine(workspace, wanted, purpose, progress=lambda *_: None)[0].warnings


def _relabel(file: Path, old: int, new: int) -> None:
    mask = np.asarray(Image.open(file)).copy()
    mask[mask == old] = new
    Image.fromarray(mask).save(file)


def test_one_stray_label_is_one_warning_that_names_its_mask(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path)
    mask = np.asarray(Image.open(folder / "masks/003.png")).copy()
    mask[0, 0] = 200
    Image.fromarray(mask).save(folder / "masks/003.png")
    gaps = [p for p in _warnings(tmp_path) if p.kind == "gap"]
    assert len(gaps) == 1
    assert gaps[0].file == "masks/003.png"
    assert gaps[0].text.startswith(
        "alone has label 200: that makes 201 classes, of which 3–199 are in no image. "
    )
    for remedy in ("spec.dataset.classes", "spec.dataset.ignoreIndex: 200", "mend the mask"):
        assert remedy in gaps[0].text
    assert not [p for p in _warnings(tmp_path) if "is in no image" in p.text]
    assert not [p for p in _warnings(tmp_path, ignoreIndex=200) if p.kind == "gap"]


def test_labels_with_gaps_between_them_are_one_warning(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path)
    for file in sorted((folder / "masks").iterdir()):
        _relabel(file, 2, 20)
        _relabel(file, 1, 10)
    gaps = [p for p in _warnings(tmp_path) if p.kind == "gap"]
    assert [p.file for p in gaps] == ["masks/000.png"]
    assert gaps[0].text.startswith(
        "has label 20, as 5 others do: that makes 21 classes, of which 1–9, 11–19 are in no image. "
    )
    named = [{"name": str(value), "value": value} for value in (0, 10, 20)]
    assert not _warnings(tmp_path, classes=named)


@pytest.mark.parametrize("classes", [None, [{"name": "a"}, {"name": "b"}, {"name": "c"}]])
def test_without_gaps_nothing_is_said(tmp_path: Path, classes: Any) -> None:
    make_dataset(tmp_path)
    assert not _warnings(tmp_path, classes=classes)
