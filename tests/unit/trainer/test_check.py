"""The check before training: what it finds, what it keeps, and how the command ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kubeseg_trainer import check_command
from kubeseg_trainer.check_command import CheckOptions, check
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.check import scan
from kubeseg_trainer.tasks.segmentation.check.look import look_at
from kubeseg_trainer.tasks.segmentation.check.report import Report
from kubeseg_trainer.tasks.segmentation.check.scan import Checked, Purpose, check_data_set, examine
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.data.reading import read_pair
from kubeseg_trainer.tasks.segmentation.kind import Segmentation
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.spec import Dataset
from tests.support.datasets import make_dataset


def _quiet(done: int, total: int) -> None:
    assert 0 < done <= total


def _examine(
    workspace: Path, purpose: Purpose | None = None, **dataset: Any
) -> tuple[Report, Checked | None]:
    wanted = Dataset.model_validate({"name": "discs", "testSize": 0.4, **dataset})
    return examine(workspace, wanted, purpose or Purpose(seed=0, image_size=32), progress=_quiet)


def _good(workspace: Path, purpose: Purpose | None = None, **dataset: Any) -> Checked:
    report, checked = _examine(workspace, purpose, **dataset)
    assert checked is not None, report.lines()
    return checked


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were looked at, instead of taken from what was kept."""
    seen: list[str] = []

    def counting(pair: Pair, *args: Any, **more: Any) -> Any:
        seen.append(pair.image.name)
        return look_at(pair, *args, **more)

    monkeypatch.setattr(scan, "look_at", counting)
    return seen


def test_statistics_are_those_of_the_training_part(tmp_path: Path) -> None:
    make_dataset(tmp_path, count=6)
    checked = _good(tmp_path)
    pairs = [read_pair(pair, checked.decoding) for pair in checked.parts.train]
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in pairs]) / 255
    labels = np.concatenate([mask.reshape(-1) for _, mask in pairs])
    statistics = checked.statistics
    assert statistics.class_pixels == tuple(np.bincount(labels, minlength=3))
    assert statistics.mean == pytest.approx(pixels.mean(axis=0))
    assert statistics.std == pytest.approx(pixels.std(axis=0))
    assert statistics.bits == 8


def test_one_image_of_16_bits_makes_all_of_them_wide(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=4)
    (folder / "images/001.png").unlink()
    np.save(folder / "images/001.npy", np.full((40, 48, 3), 60_000, np.uint16))
    checked = _good(tmp_path)
    assert checked.statistics.bits == 16
    for pair in checked.parts.all_pairs():
        assert read_pair(pair, checked.decoding)[0].dtype == np.uint16


def test_masks_of_0_and_255_show_one_kind_of_object(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=4, classes=2)
    for file in (folder / "masks").iterdir():
        Image.fromarray(np.array(Image.open(file)) * np.uint8(255)).save(file)
    checked = _good(tmp_path)
    assert checked.class_names == ["background", "object"]
    _, mask = read_pair(checked.parts.train[0], checked.decoding)
    assert np.unique(mask).tolist() == [0, 1]
    void = _examine(tmp_path, ignoreIndex=255)[0]
    assert "at least 2 classes are needed" in void.errors[0].text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_in_colours(tmp_path: Path, mode: str) -> None:
    folder = make_dataset(tmp_path, count=4)
    colors = np.array([(0, 0, 0), (255, 0, 0), (0, 153, 255)], np.uint8)
    truth = {}
    for file in (folder / "masks").iterdir():
        truth[file.stem] = np.array(Image.open(file))
        Image.fromarray(colors[truth[file.stem]]).convert(mode).save(file)
    classes = [
        {"name": name, "color": "#{:02x}{:02x}{:02X}".format(*color)}
        for name, color in zip(("ground", "disc", "other"), colors, strict=True)
    ]
    checked = _good(tmp_path, classes=classes)
    for pair in checked.parts.all_pairs():
        assert np.array_equal(read_pair(pair, checked.decoding)[1], truth[pair.stem])
    ignored = _good(tmp_path, classes=classes, ignoreIndex=1)
    pair = ignored.parts.train[0]
    mask = read_pair(pair, ignored.decoding)[1]
    assert np.array_equal(mask == VOID, truth[pair.stem] == 1)
    report, _ = _examine(tmp_path, classes=classes[:2])
    assert "has the colour #0099ff, which is none of the class map's" in report.errors[0].text


def test_a_part_for_testing_is_looked_at_and_handed_on(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=3, parts=("train", "val", "test"))
    checked = _good(tmp_path)
    assert len(checked.parts.test) == 3
    (folder / "test/images/001.png").write_bytes(b"no image")
    report, _ = _examine(tmp_path)
    assert "test/images/001.png can't be read" in report.lines()[1]


def _copy_into_training(folder: Path) -> None:
    shutil.copy(folder / "val/images/001.png", folder / "train/images/002.png")


def _class_only_in_training(folder: Path) -> None:
    for file in (folder / "val/masks").iterdir():
        mask = np.array(Image.open(file))
        mask[mask == 2] = 0
        Image.fromarray(mask).save(file)


def _surplus(folder: Path) -> None:
    Image.new("L", (4, 4)).save(folder / "train/masks/extra.png")


def _tiny(folder: Path) -> None:
    Image.new("RGB", (30, 50)).save(folder / "train/images/000.png")
    Image.new("L", (30, 50)).save(folder / "train/masks/000.png")


@pytest.mark.parametrize(
    ("spoil", "purpose", "file", "sentence"),
    [
        (_copy_into_training, None, "val/images/001.png", "same picture as train/images/002.png"),
        (_class_only_in_training, None, "", 'class "2" is in no validation image'),
        (_surplus, None, "train/masks/extra.png", "has no image"),
        (_tiny, None, "train/images/000.png", "is 30×50, with a side below 32 pixels"),
        (
            lambda _: None,
            Purpose(0, image_size=64, image_mode="Crop"),
            "train/images/000.png",
            "is 48×40, smaller than the window of 64",
        ),
    ],
)
def test_warnings_name_the_file(
    tmp_path: Path,
    spoil: Callable[[Path], None],
    purpose: Purpose | None,
    file: str,
    sentence: str,
) -> None:
    folder = make_dataset(tmp_path, count=3, parts=("train", "val"))
    assert _good(tmp_path).warnings == ()
    spoil(folder)
    warnings = _good(tmp_path, purpose).warnings
    assert any(w.file == file and sentence in w.text for w in warnings), warnings


def test_channels_that_do_not_fit_are_said_by_file(tmp_path: Path) -> None:
    make_dataset(tmp_path, count=3)
    report, _ = _examine(tmp_path, Purpose(0, in_channels=5))
    assert len(report.errors) == 3
    assert report.errors[0].file == "images/000.png"
    assert "has 3 channels, spec.model.inChannels is 5" in report.errors[0].text
    assert _good(tmp_path, Purpose(0, in_channels=1)).decoding.channels == 1


def test_what_was_found_is_kept_and_used_again(tmp_path: Path, looks: list[str]) -> None:
    folder = make_dataset(tmp_path, count=5)
    first = _good(tmp_path)
    assert len(looks) == 5
    assert len(list((tmp_path / "checks").glob("*.json"))) == 1
    assert _good(tmp_path) == first
    # Another split, another size: the same files.
    assert _good(tmp_path, Purpose(seed=3, image_size=64)).order != first.order
    assert len(looks) == 5
    (folder / "images/000.png").write_bytes(b"no image at all")
    for _ in range(2):
        report, checked = _examine(tmp_path)
        assert checked is None
        assert [problem.file for problem in report.errors] == ["images/000.png"]
    assert report.kept
    assert len(looks) == 10


def test_a_kept_check_that_is_damaged_is_made_anew(tmp_path: Path, looks: list[str]) -> None:
    make_dataset(tmp_path, count=5)
    first = _good(tmp_path)
    (kept,) = (tmp_path / "checks").glob("*.json")
    for damage in (b"", b"{}", b'{"formatVersion": 2, "looks": [[1]], "drawings": null}', b"[]"):
        kept.write_bytes(damage)
        assert _good(tmp_path) == first
    assert len(looks) == 25


def test_without_a_workspace_to_write_to_nothing_is_kept(
    tmp_path: Path, looks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_dataset(tmp_path, count=3)
    (tmp_path / "checks").write_text("a file where the folder should be")
    with caplog.at_level("INFO"):
        assert _good(tmp_path) == _good(tmp_path)
    assert len(looks) == 6
    assert "what the check found is not kept" in caplog.text


def test_the_fingerprint_tells_files_decoding_and_order(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=6)
    first = _good(tmp_path)
    touched = folder / "images/003.png"
    stat = touched.stat()
    os.utime(touched, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    later = _good(tmp_path)
    assert later.fingerprint != first.fingerprint
    assert later.order == first.order
    void = _good(tmp_path, ignoreIndex=9)
    assert void.fingerprint != later.fingerprint
    assert void.order == first.order
    other = _good(tmp_path, Purpose(seed=7, image_size=32))
    assert other.fingerprint != later.fingerprint
    assert other.order != first.order


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=4)
    (folder / "images/001.png").unlink()
    (folder / "images/001.png").symlink_to("nowhere.png")
    with pytest.raises(DatasetError, match=r"images/001\.png can't be read: No such file"):
        _examine(tmp_path)


def test_a_training_ends_with_all_problems_and_the_report(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=9)
    for index in range(7):
        Image.new("L", (10, 10)).save(folder / f"masks/00{index}.png")
    runs = tmp_path / "runs"
    runs.mkdir()
    messages = set()
    for _ in range(2):
        with pytest.raises(
            DatasetError, match=r"7 of 9 images.*\(\+2 more in runs/check\.json\)"
        ) as e:
            check_data_set(
                tmp_path,
                Dataset(name="discs"),
                Purpose(0),
                progress=_quiet,
                report_folder=runs,
            )
        messages.add(str(e.value))
    assert len(messages) == 1
    assert len(json.loads((runs / "check.json").read_text())["problems"]) == 7


def _write_job(folder: Path, **dataset: Any) -> Path:
    spec = {"dataset": {"name": "discs", **dataset}, "training": {"epochs": 1}}
    file = folder / "job.yaml"
    file.write_text(json.dumps({"kind": "TrainingJob", "metadata": {"name": "a"}, "spec": spec}))
    return file


def test_the_command_prints_a_report_without_torch(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=6)
    Image.new("L", (10, 10)).save(folder / "masks/003.png")
    code = (
        "import sys; from kubeseg_trainer.cli import main; code = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    options = ["--config", str(_write_job(tmp_path)), "--workspace", str(tmp_path), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, "check", *options], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (ExitCode.DATASET, "")
    document = json.loads(done.stdout)
    assert document["ok"] is False
    assert document["problems"][0]["file"] == "masks/003.png"


@pytest.mark.parametrize(
    ("dataset", "code", "sentence"),
    [
        ({}, ExitCode.SUCCESS, "good; 0 warnings"),
        ({"name": "disks"}, ExitCode.DATASET, 'Did you mean "discs"?'),
        ({"testSize": 2}, ExitCode.CONFIGURATION, "spec.dataset.testSize: must be at most 0.9"),
        (
            {"classes": [{"name": "a"}, {"name": "a"}]},
            ExitCode.CONFIGURATION,
            "spec.dataset.classes: must have a name of its own for each class",
        ),
    ],
)
def test_the_commands_exit_codes(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    dataset: dict[str, Any],
    code: ExitCode,
    sentence: str,
) -> None:
    make_dataset(tmp_path, count=6)
    with caplog.at_level("INFO"):
        options = CheckOptions(_write_job(tmp_path, **dataset), tmp_path)
        assert check(options, StopRequest()) == code
    assert sentence in caplog.text


def test_the_command_in_a_workspace_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = CheckOptions(_write_job(tmp_path), tmp_path / "nowhere", as_json=True)
    code = check(options, StopRequest())
    assert code == ExitCode.CONFIGURATION
    document = json.loads(capsys.readouterr().out)
    assert "is not a folder" in document["problems"][0]["problem"]


# --- in a pod, before an attempt takes a GPU


def _pod_options(folder: Path, uid: str = "u-1", **more: Any) -> CheckOptions:
    """As the operator's check Job calls it; `more` goes into the configuration."""
    config: dict[str, Any] = {
        "job": "street",
        "uid": uid,
        "model": {"architecture": "Linknet", "encoder": "tu-test_resnet"},
        "dataset": {"name": "discs"},
        "training": {"epochs": 1, "imageSize": 64},
    }
    for key, value in more.items():
        config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    log = folder / "termination-log"
    log.write_bytes(b"")
    return CheckOptions(file, folder, network=True, termination_log=log)


def _told(options: CheckOptions) -> dict[str, Any]:
    assert options.termination_log is not None
    told: dict[str, Any] = json.loads(options.termination_log.read_text())
    return told


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Encoders that were tried, instead of taken from what was kept."""
    tried: list[str] = []
    real = Segmentation.refuse_early

    def counting(self: Segmentation, config: Any, bits: int | None = None) -> None:
        tried.append(config.model.encoder)
        real(self, config, bits)

    monkeypatch.setattr(Segmentation, "refuse_early", counting)
    return tried


def test_the_second_time_it_answers_from_what_was_kept(
    tmp_path: Path, looks: list[str], trials: list[str]
) -> None:
    make_dataset(tmp_path, count=6)
    options = _pod_options(tmp_path)
    assert check(options, StopRequest()) == ExitCode.SUCCESS
    first = _told(options)
    assert first["exitCode"] == 0
    assert first["message"].startswith(
        'data set "discs" is good: 5 train, 1 validation, 0 warnings; every'
    )
    assert check(options, StopRequest()) == ExitCode.SUCCESS
    assert "an earlier look at the same files, network tried before" in _told(options)["message"]
    assert (len(looks), trials) == (6, ["tu-test_resnet"])
    # Another size is another question.
    assert check(_pod_options(tmp_path, training={"imageSize": 96}), StopRequest()) == 0
    assert len(trials) == 2
    assert not (tmp_path / "runs").exists()


def test_a_bad_data_set_is_told_in_the_termination_message_with_its_files(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, count=9)
    for index in range(7):
        Image.new("L", (10, 10)).save(folder / f"masks/00{index}.png")
    options = _pod_options(tmp_path)
    assert check(options, StopRequest()) == ExitCode.DATASET
    told = _told(options)
    assert (told["exitCode"], told["reason"]) == (3, "InvalidDataset")
    assert told["message"].startswith(
        'data set "discs": 7 of 9 images with masks can\'t be used: masks/000.png '
    )
    assert told["message"].endswith("(+2 more in runs/street/u-1/check.json)")
    report = json.loads((tmp_path / "runs/street/u-1/check.json").read_text())
    assert len(report["problems"]) == 7


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": {"encoder": "resnet43"}}, "spec.model.encoder: must be an encoder"),
        (
            {"training": {"optimizer": {"name": "Adam", "nesterov": True}}},
            "nesterov: must be left out",
        ),
        ({"initFrom": {"job": "yesterday"}}, "yesterday"),
    ],
)
def test_what_cannot_be_trained_is_refused_whatever_the_data(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    make_dataset(tmp_path, count=6)
    options = _pod_options(tmp_path, **more)
    for _ in range(2):
        assert check(options, StopRequest()) == ExitCode.CONFIGURATION
        assert words in _told(options)["message"]
    assert not list((tmp_path / "checks").glob("*.tried")) or "initFrom" in more


def test_sigterm_ends_it_as_an_interruption(tmp_path: Path) -> None:
    make_dataset(tmp_path, count=6)
    options, stop = _pod_options(tmp_path), StopRequest()
    stop._handle(15, None)
    assert check(options, stop) == ExitCode.INTERRUPTED
    assert _told(options)["exitCode"] == 75


def test_what_nobody_foresaw_is_an_error_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a surprise")

    monkeypatch.setattr(check_command, "_examine", broken)
    options = _pod_options(tmp_path)
    assert check(options, StopRequest()) == ExitCode.ERROR
    assert _told(options)["message"] == "unexpected RuntimeError: a surprise"


def test_a_check_that_hangs_ends_as_a_stall(tmp_path: Path) -> None:
    make_dataset(tmp_path, count=3)
    options = _pod_options(tmp_path)
    code = (
        "import sys, threading; from kubeseg_trainer import check_command, cli;"
        "check_command.duration_seconds = lambda _: 1;"
        "check_command._examine = lambda *_: threading.Event().wait();"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    arguments = ["check", "--config", str(options.config), "--workspace", str(tmp_path)]
    arguments += ["--termination-log", str(options.termination_log)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, timeout=60)
    assert done.returncode == ExitCode.STALLED
    message = _told(options)["message"]
    assert message.startswith("the check got no further for ")
    assert "spec.training.stallTimeout is 30m" in message
