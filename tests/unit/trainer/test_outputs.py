"""Predicting and describing, as far as it is decisions and arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kubeseg_trainer.ending import Ending, message_bytes, termination_message
from kubeseg_trainer.engine.exporting import known_of
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.milestones import Milestones, process_age
from kubeseg_trainer.predict_command import PredictOptions, find_images, plan, predict_images
from kubeseg_trainer.run_directory import model_file
from kubeseg_trainer.tasks.segmentation.data.colours import class_colors
from kubeseg_trainer.tasks.segmentation.output.curves import curves_svg, loss_top, nice_top
from kubeseg_trainer.tasks.segmentation.output.model_card import escape
from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo
from kubeseg_trainer.tasks.segmentation.output.predict import Array, predict
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import MAX_TERMINATION_BYTES
from kubeseg_types.spec import ClassName
from kubeseg_types.trainer import EpochRecord, Part, RunRecord, WeightsFile

PART = Part(loss=0.5, dice=0.8, iou=0.7, samples=3, class_dice=[0.8], class_iou=[0.7])


class Bright:
    """Class 1 where the first channel is above 100; a batch of two at most."""

    most = 2

    def __init__(self, mode: Any, side: int, *, size: int | None = None) -> None:
        self.size = size
        self.info = ModelInfo(
            "Unet", "none", ("dark", "bright"), (), 3, 1, side, mode, 0.25,
            (0.5,) * 3, (0.2,) * 3, 8,
        )  # fmt: skip
        self.sizes: list[tuple[int, ...]] = []

    def logits(self, images: Array) -> Array:
        self.sizes.append(images.shape)
        return np.stack([100 - images[:, 0], images[:, 0] - 100], axis=1)


def picture(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 :] = 250
    return image


@pytest.mark.parametrize("mode", ["Resize", "Crop"])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("size", [None, 32])
def test_labels_have_the_images_own_sizes(
    mode: str, size: int | None, *, probabilities: bool
) -> None:
    images = [picture(64, 64), picture(100, 60), picture(10, 90)]
    backend = Bright(mode, 32, size=size)
    found = list(predict(backend, images, batch=8, probabilities=probabilities))
    for image, prediction in zip(images, found, strict=True):
        assert prediction.labels.shape == image.shape[:2]
        # Resizing blurs the edge by a few rows.
        assert (prediction.labels == (image[:, :, 0] > 100)).mean() > 0.85
        if prediction.probabilities is not None:
            assert np.allclose(prediction.probabilities.sum(axis=0), 1)
            assert np.array_equal(prediction.probabilities.argmax(axis=0), prediction.labels)
        assert (prediction.probabilities is not None) == probabilities
    assert all(shape[0] <= 2 and max(shape[2:]) == 32 for shape in backend.sizes)
    if size is not None:
        assert all(shape[2:] == (32, 32) for shape in backend.sizes)


def _images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)


def _options(folder: Path, **more: Any) -> PredictOptions:
    return PredictOptions(folder / "m.onnx", [folder / "a"], folder / "out", **more)


def test_images_are_found_once_and_in_order(tmp_path: Path) -> None:
    _images(tmp_path / "a", "2.png", "1.jpg")
    (tmp_path / "a/notes.txt").touch()
    (tmp_path / "empty").mkdir()
    first, second = tmp_path / "a/1.jpg", tmp_path / "a/2.png"
    assert find_images([second, tmp_path / "a", first]) == [second, first]
    with pytest.raises(ConfigurationError, match="has no images: files that end in"):
        find_images([tmp_path / "empty"])
    with pytest.raises(ConfigurationError, match="is not there"):
        find_images([tmp_path / "b"])


def test_nothing_is_written_over_by_accident(tmp_path: Path) -> None:
    _images(tmp_path / "a", "1.jpg", "2.jpg")
    _images(tmp_path / "b", "2.png")
    _images(tmp_path / "out", "2.png")
    images = find_images([tmp_path / "a"])
    with pytest.raises(ConfigurationError, match=r"two images would be written to 2\.png"):
        plan(find_images([tmp_path / "a", tmp_path / "b"]), _options(tmp_path))
    with pytest.raises(ConfigurationError, match=r"1 of 2 label images are there \(2\.png\)"):
        plan(images, _options(tmp_path))
    skipped = plan(images, _options(tmp_path, existing="skip"))
    assert [target.name for _, target in skipped] == ["1.png"]
    assert len(plan(images, _options(tmp_path, existing="overwrite"))) == 2
    among = PredictOptions(tmp_path, [], tmp_path / "a/../a")
    with pytest.raises(ConfigurationError, match="is where images come from"):
        plan(images, among)


def test_a_bad_image_is_named_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _images(tmp_path / "a", "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "a/2.jpg").write_bytes(b"broken")
    monkeypatch.setattr(
        "kubeseg_trainer.tasks.segmentation.output.predict.open_model",
        lambda *_: Bright("Resize", 32),
    )
    options = _options(tmp_path, overlay=True, probabilities=True, batch=2)
    assert predict_images(options) == ExitCode.DATASET
    assert "2.jpg can't be read as an image" in caplog.text
    assert "1 of 3 images can't be read" in caplog.text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{n}.{kind}" for n in "13" for kind in ("png", "npy", "overlay.jpg")}
    assert Image.open(tmp_path / "out/1.png").mode == "P"


@pytest.mark.parametrize(
    ("there", "given", "found"),
    [
        (["model/model.safetensors", "model/model.onnx"], "", "model/model.safetensors"),
        (["model.onnx"], "", "model.onnx"),
        (["x.safetensors"], "x.safetensors", "x.safetensors"),
        (["run.json"], "", "has no model/ yet"),
        (["x.txt"], "x.txt", "is no model: give a .safetensors or an .onnx file"),
        (["x.txt"], "", "holds neither model.safetensors nor model.onnx"),
        ([], "none", "is not there"),
    ],
)
def test_which_file_a_model_is(tmp_path: Path, there: list[str], given: str, found: str) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if "." in found and " " not in found:
        assert model_file(tmp_path / given) == tmp_path / found
    else:
        with pytest.raises(ConfigurationError, match=found):
            model_file(tmp_path / given)


def test_what_is_no_model_is_said_to_be_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _images(tmp_path / "a", "1.jpg")
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    assert predict_images(_options(tmp_path)) == ExitCode.CONFIGURATION
    assert "m.onnx is no ONNX file of kubeseg" in caplog.text


@pytest.mark.parametrize(
    ("highest", "top"), [(0.0, 1.0), (0.03, 0.05), (1.0, 1.0), (1.01, 2.0), (2.2, 2.5), (700, 1000)]
)
def test_axes_end_at_round_numbers(highest: float, top: float) -> None:
    assert nice_top(highest) == pytest.approx(top)


def test_a_wild_first_epoch_does_not_flatten_the_rest() -> None:
    assert loss_top([500.0, 2.0, 1.0, 1.0, 1.0]) == 5.0
    assert loss_top([float("nan")]) == 1.0


@pytest.mark.parametrize("epochs", [1, 2, 9, 2000])
def test_curves_of_any_length_are_small(epochs: int) -> None:
    record = EpochRecord(
        epoch=1, step=1, train=PART, validation=PART, learning_rate=1, seconds=1,
        samples_per_second=1, time="2026-01-01T00:00:00Z", attempt=1, start=1,
    )  # fmt: skip
    svg = curves_svg([record] * epochs, epochs)
    assert svg.count("<polyline") == 5
    assert len(svg) < 50_000


def test_names_cannot_break_a_table() -> None:
    assert escape("a|b\n<img>`*") == r"a\|b \<img\>\`\*"


def test_colours_are_the_data_sets_where_it_has_them() -> None:
    classes = [ClassName(name="a"), ClassName(name="b", color="#AABBCC")]
    colors = class_colors(classes, 30)
    assert colors[1] == "#aabbcc"
    assert len(set(colors)) == 30


def _record(**more: Any) -> RunRecord:
    base: dict[str, Any] = {
        "namespace": "n", "job": "j", "uid": "u", "generation": 1, "attempt": 1, "start": 1,
        "state": "Running", "config": {}, "metrics_file": "m", "started": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return RunRecord(**base, **more)


A, B = (WeightsFile(path="p", sha256=name * 64, bytes=1) for name in "ab")


@pytest.mark.parametrize(
    ("record", "test", "model", "complete"),
    [
        (None, False, False, True),
        (_record(), False, False, True),
        (_record(model_weights=A, test=PART, fingerprint="f"), True, True, True),
        (_record(model_weights=A, test=PART, fingerprint="other data"), False, True, True),
        (_record(model_weights=B, test=PART, fingerprint="f"), False, False, True),
        (_record(model_weights=B, export={"underWay": A.sha256}), False, False, False),
        (_record(export={"underWay": B.sha256}), False, False, True),
    ],
)
def test_what_an_earlier_start_said_holds_for_the_same_weights_and_data(
    tmp_path: Path, record: RunRecord | None, *, test: bool, model: bool, complete: bool
) -> None:
    known = known_of(record, A, "f", tmp_path)
    assert (known.test is not None, known.model, known.complete) == (test, model, complete)


def test_milestones_keep_the_first_time_or_the_last() -> None:
    milestones = Milestones()
    milestones.reach("step")
    first = milestones.reached["step"]
    milestones.reach("step")
    assert milestones.reached["step"] == first > 0
    milestones.reached["step"] = 0.0
    milestones.reach("step", again=True)
    assert 0 < milestones.reached["step"] <= process_age() + 0.001


def test_the_termination_message_has_the_tests_scalars_below_the_limit() -> None:
    data = message_bytes(termination_message(Ending(ExitCode.SUCCESS, "ü" * 5000), None, PART))
    assert len(data) < MAX_TERMINATION_BYTES
    assert b'"test":{"loss":0.5,"dice":0.8,"iou":0.7,"samples":3}' in data
