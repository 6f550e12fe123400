"""Annotation files: each format gives the same masks, and says what is wrong with it by file."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kubeseg_trainer.errors import ConfigurationError, DatasetError
from kubeseg_trainer.tasks.segmentation.check.report import Report
from kubeseg_trainer.tasks.segmentation.check.scan import Checked, Purpose, examine
from kubeseg_trainer.tasks.segmentation.data.formats.choice import choose_format
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.data.reading import read_pair
from kubeseg_types.spec import Dataset
from tests.support import annotated
from tests.support.datasets import make_dataset

FORMATS: list[tuple[str, Callable[[Path], None]]] = [
    ("Coco", annotated.write_coco),
    ("Coco", functools.partial(annotated.write_coco, shape=annotated.run_lengths)),
    ("Coco", functools.partial(annotated.write_coco, shape=annotated.compressed)),
    ("Yolo", annotated.write_yolo),
    ("Cvat", annotated.write_cvat),
    ("Voc", annotated.write_voc),
]
IDS = ["coco-polygons", "coco-rle", "coco-compressed", "yolo", "cvat", "voc"]


def _folder(workspace: Path) -> Path:
    folder = workspace / "datasets/pets"
    folder.mkdir(parents=True)
    return folder


def _examine(workspace: Path, **dataset: Any) -> tuple[Report, Checked | None]:
    wanted = Dataset.model_validate({"name": "pets", **dataset})
    return examine(workspace, wanted, Purpose(seed=1, image_size=32), progress=lambda *_: None)


@pytest.mark.parametrize(("name", "write"), FORMATS, ids=IDS)
def test_each_format_gives_the_same_masks(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    root = _folder(tmp_path)
    write(root)
    assert choose_format(root, Dataset(name="pets")) == name
    report, checked = _examine(tmp_path)
    assert checked is not None, report.lines()
    assert checked.class_names == ["background", "cat", "dog"]
    pairs = checked.parts.all_pairs()
    assert len({pair.stem for pair in pairs}) == len(pairs)
    assert min(len(checked.parts.train), len(checked.parts.validation)) >= 1
    drawn = 0
    for pair in pairs:
        image, mask = read_pair(pair, checked.decoding)
        assert image.shape == (*mask.shape, 3)
        if mask.any():
            drawn += 1
            assert np.array_equal(mask, annotated.truth())
    assert drawn == 6
    assert len(pairs) == (8 if name == "Yolo" else 6)
    again, second = _examine(tmp_path)
    assert again.kept
    assert second == checked


def test_a_list_of_classes_picks_by_name(tmp_path: Path) -> None:
    annotated.write_coco(_folder(tmp_path))
    names = [{"name": "ground"}, {"name": "dog"}]
    report, checked = _examine(tmp_path, classes=names)
    assert checked is not None
    assert checked.class_names == ["ground", "dog"]
    _, mask = read_pair(checked.parts.train[0], checked.decoding)
    assert np.array_equal(mask, (annotated.truth() == 2).astype(np.uint8))
    assert any("cat: not in spec.dataset.classes" in p.text for p in report.warnings)
    ignored, void = _examine(tmp_path, classes=[*names, {"name": "cat"}], ignoreIndex=2)
    assert void is not None, ignored.lines()
    _, mask = read_pair(void.parts.train[0], void.decoding)
    assert np.array_equal(mask == VOID, annotated.truth() == 1)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["background", "cow"], "it has no class 'cow', which spec.dataset.classes names"),
        (["cat", "dog"], "the first is the background, but 'cat' is annotated"),
    ],
)
def test_classes_that_the_annotations_do_not_know(
    tmp_path: Path, classes: list[str], sentence: str
) -> None:
    annotated.write_coco(_folder(tmp_path))
    report, checked = _examine(tmp_path, classes=[{"name": name} for name in classes])
    assert checked is None
    assert sentence in report.errors[0].text


def _lost_image(root: Path) -> None:
    annotated.write_coco(root)
    (root / "images/0-1.png").unlink()


def _strange_category(root: Path) -> None:
    annotated.write_coco(root)
    _change_coco(root, lambda d: d["annotations"][0].update(category_id=77))


def _other_size(root: Path) -> None:
    annotated.write_coco(root)
    _change_coco(root, lambda d: d["images"][0].update(width=99))


def _two_points(root: Path) -> None:
    annotated.write_coco(root)
    _change_coco(root, lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4]]))


def _outside(root: Path) -> None:
    annotated.write_coco(root)
    annotated.write_images(root.parent / "other", 1)
    _change_coco(root, lambda d: d["images"][0].update(file_name="../../other/elsewhere.png"))


def _unknown_image(root: Path) -> None:
    annotated.write_coco(root)
    _change_coco(root, lambda d: d["annotations"][0].update(image_id=12345))
    _change_coco(root, lambda d: d["annotations"][1].update(image_id=12345))


def _change_coco(root: Path, change: Callable[[Any], object]) -> None:
    file = root / "annotations/instances_train2017.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def _twice(root: Path) -> None:
    annotated.write_coco(root)
    _change_coco(root, lambda d: d["images"][1].update(file_name="0-0.png"))


def _boxes(root: Path) -> None:
    annotated.write_yolo(root)
    (root / "labels/train/0-1.txt").write_text("0 0.5 0.5 0.2 0.2\n")


def _no_mask(root: Path) -> None:
    annotated.write_voc(root)
    (root / "SegmentationClass/0-1.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_lost_image, "instances_train2017.json names the image 0-1.png, which isn't there"),
        (_strange_category, "(images/0-0.png) has the unknown category 77 (annotation 9)"),
        (
            _unknown_image,
            "instances_train2017.json has the unknown image_id 12345 (annotation 9 and 1 more)",
        ),
        (_other_size, "says that images/0-0.png is 99×30, it is 40×30"),
        (_two_points, "(images/0-0.png) can't be drawn: a polygon of fewer than 3 points"),
        (_outside, "names the image ../../other/elsewhere.png, which isn't there"),
        (_twice, "describes images/0-0.png, which has been described before"),
        (_boxes, "labels/train/0-1.txt holds boxes"),
        (_no_mask, "train.txt names 0-1, which has no mask"),
    ],
)
def test_what_does_not_fit_is_said_by_file(
    tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(_folder(tmp_path))
    report, checked = _examine(tmp_path)
    assert checked is None
    assert sentence in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("name", "text", "chosen", "sentence"),
    [
        ("a.json", "{", "Auto", "a.json is no COCO JSON"),
        ("a.json", '{"images": []}', "Auto", "it has no 'categories'"),
        ("a.xml", "<annotations><meta><task>", "Auto", "a.xml is no CVAT XML"),
        ("data.yaml", "train: images", "Yolo", "is not in the format Yolo"),
        ("notes.txt", "", "Voc", "is not in the format Voc"),
    ],
)
def test_files_that_are_not_in_their_format(
    tmp_path: Path, name: str, text: str, chosen: str, sentence: str
) -> None:
    root = _folder(tmp_path)
    annotated.write_images(root / "images", 2)
    (root / name).write_text(text)
    with pytest.raises(DatasetError, match=sentence):
        _examine(tmp_path, format=chosen)


def test_an_image_that_could_not_be_drawn_is_in_an_annotation_file(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    _two_points(root)
    report, _ = _examine(tmp_path)
    assert len(report.errors) == 1
    assert not [problem for problem in report.warnings if problem.kind != "small"]


def test_an_image_in_no_annotation_file_is_named(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    annotated.write_coco(root)
    annotated.write_images(root / "images", 1, seed=7)
    report, _ = _examine(tmp_path)
    told = [(p.file, p.text) for p in report.warnings if p.kind != "small"]
    assert told == [("images/7-0.png", "is in no annotation file: left out")]


def test_voc_prints_nothing_for_each_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotated.write_voc(_folder(tmp_path))
    assert _examine(tmp_path)[1] is not None
    assert "class segmentations" not in caplog.text


def test_folders_that_are_links_are_followed_once(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    annotated.write_coco(root)
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "back").symlink_to(root)
    report, checked = _examine(tmp_path)
    assert checked is not None, report.lines()
    assert len(checked.parts.all_pairs()) == 6


def test_a_path_that_leads_out_of_the_data_set_is_refused(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    annotated.write_cvat(root)
    annotated.write_images(root.parent / "other", 1)
    file = root / "annotations.xml"
    file.write_text(file.read_text().replace("0-0.png", "../../other/0-0.png"))
    with pytest.raises(DatasetError, match=r"annotations\.xml is no CVAT XML .* '\.\.' path"):
        _examine(tmp_path)


def test_the_label_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    annotated.write_yolo(root)
    (root / "labels/train/0-1.txt").write_text("7 0.1 0.1 0.2 0.2 0.3 x\n")
    with pytest.raises(DatasetError, match=r"the labels of 0-1\.png can't be read"):
        _examine(tmp_path)


def test_shapes_that_are_no_areas_are_left_out_with_a_word(tmp_path: Path) -> None:
    annotated.write_cvat(_folder(tmp_path))
    report, _ = _examine(tmp_path)
    told = [(p.file, p.text) for p in report.warnings]
    assert (
        "annotations.xml",
        "has 6 shapes of the kind bbox, which are no areas: left out",
    ) in told


def test_a_library_that_is_missing_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotated.write_cvat(_folder(tmp_path))
    name = "kubeseg_trainer.tasks.segmentation.data.formats.cvat"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "datumaro.components.annotation", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'kubeseg\[formats\]'"):
        _examine(tmp_path)


def test_masks_in_folders_go_before_annotation_files(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, "pets", count=3)
    (root / "notes.json").write_text("{}")
    assert choose_format(root, Dataset(name="pets")) == "Folders"
