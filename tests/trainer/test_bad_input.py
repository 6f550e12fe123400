"""Bad input: a clear error, early, with the exit code that says whose turn it is."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kubeseg_trainer.tasks.segmentation.network.losses import SegmentationLoss
from kubeseg_trainer.tasks.segmentation.task import SegmentationTask
from kubeseg_types.exit_codes import ExitCode
from tests.support.datasets import make_dataset, make_pair, write_pair
from tests.support.trainings import Place, config_of


def _message(place: Place) -> str:
    return str(place.message()["message"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"training": {"learningRate": 3}}, "spec.training.learningRate: must be at most 1, not 3"),
        ({"training": {"epoch": 3}}, "spec.training.epoch: is not a field"),
        ({"training": {"batchSize": "many"}}, "spec.training.batchSize: must be a whole number"),
        ({"model": {"encoder": "resnet81"}}, "spec.model.encoder: must be an encoder of smp"),
        (
            {"model": {"encoder": "tu-no-such"}},
            "spec.model.encoder: must be an encoder of smp or timm",
        ),
        ({"model": {"encoder": "mit_b0"}}, "spec.model: Linknet can't be built on"),
        ({"model": {"architecture": "DeepLabV3", "encoder": "vgg11"}}, "Choose another encoder"),
    ],
)
def test_what_cannot_be_configured_is_said_by_field(
    place: Place, change: dict[str, Any], sentence: str
) -> None:
    assert place.train(config_of(**change)) == ExitCode.CONFIGURATION
    assert sentence in _message(place)
    assert place.message()["reason"] == "InvalidConfiguration"


def _no_masks(folder: Path) -> None:
    for file in (folder / "masks").iterdir():
        file.unlink()


def _one_mask_missing(folder: Path) -> None:
    (folder / "masks/003.png").unlink()


def _other_size(folder: Path) -> None:
    Image.new("L", (10, 10)).save(folder / "masks/003.png")


def _label_outside(folder: Path) -> None:
    Image.new("L", (48, 40), 7).save(folder / "masks/003.png")


def _colours(folder: Path) -> None:
    Image.new("RGB", (48, 40)).save(folder / "masks/003.png")


def _no_image(folder: Path) -> None:
    (folder / "images/003.png").write_bytes(b"no image at all")


def _cut_off(folder: Path) -> None:
    file = folder / "images/003.png"
    file.write_bytes(file.read_bytes()[:-200])


def _one_class(folder: Path) -> None:
    for file in (folder / "masks").iterdir():
        Image.new("L", (48, 40), 0).save(file)


def _one_image(folder: Path) -> None:
    for file in sorted((folder / "images").iterdir())[1:]:
        file.unlink()


def _twice(folder: Path) -> None:
    Image.new("RGB", (48, 40)).save(folder / "images/003.jpg")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_no_masks, "has no masks in masks/"),
        (_one_mask_missing, "images/003.png has no mask: masks/003.png is missing"),
        (_other_size, "masks/003.png is 10×10, its image 48×40"),
        (_label_outside, "masks/003.png has label 7, the class map ends at 2"),
        (_colours, "masks/003.png is a RGB image, not one of labels"),
        (_no_image, "images/003.png can't be read"),
        (_cut_off, "images/003.png can't be read"),
        (_one_image, "at least 2 are needed"),
        (_twice, "003.jpg, 003.png share the stem"),
    ],
)
def test_a_data_set_that_does_not_fit_is_said_by_file(
    place: Place, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(place.workspace / "datasets/discs")
    names = [{"name": name} for name in ("ground", "disc", "other")]
    assert place.train(config_of(dataset={"classes": names})) == ExitCode.DATASET
    assert sentence in _message(place)
    assert place.message()["reason"] == "InvalidDataset"


def test_a_single_class_is_too_few(place: Place) -> None:
    _one_class(place.workspace / "datasets/discs")
    assert place.train(config_of()) == ExitCode.DATASET
    assert "at least 2 classes are needed" in _message(place)


def test_many_problems_are_found_in_one_pass_and_listed_in_full(place: Place) -> None:
    folder = place.workspace / "datasets/discs"
    for index in range(7):
        Image.new("L", (10, 10)).save(folder / f"masks/00{index}.png")
    assert place.train(config_of()) == ExitCode.DATASET
    assert "7 of 9 images" in _message(place)
    assert "(+2 more in runs/tiny/u1/check.json)" in _message(place)
    report = json.loads((place.run_folder() / "check.json").read_text())
    assert len(report["problems"]) == 7


def test_an_unknown_data_set_is_answered_with_those_there_are(place: Place) -> None:
    make_dataset(place.workspace, "anna/cells", count=2)
    assert place.train(config_of(dataset={"name": "disks"})) == ExitCode.DATASET
    assert 'Did you mean "discs"? There: anna/cells, discs' in _message(place)


def test_a_loss_that_is_no_number_names_the_batch(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = SegmentationLoss.__call__, []

    def loss(self: SegmentationLoss, *args: Any, **more: Any) -> torch.Tensor:
        calls.append(args)
        return real(self, *args, **more) * (float("nan") if len(calls) == 2 else 1.0)

    monkeypatch.setattr(SegmentationLoss, "__call__", loss)
    assert place.train(config_of()) == ExitCode.NON_FINITE
    assert "the loss became" in _message(place)
    assert ".png" in _message(place)
    assert "spec.training.clip" in _message(place)


def test_gradients_that_are_no_numbers_reach_no_checkpoint(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss can have infinite gradients: as the root of nothing has."""
    real, calls = SegmentationLoss.__call__, []

    def loss(self: SegmentationLoss, *args: Any, **more: Any) -> torch.Tensor:
        value = real(self, *args, **more)
        if torch.is_grad_enabled():
            calls.append(value)
        return value + torch.sqrt(value - value.detach()) if len(calls) == 2 else value

    monkeypatch.setattr(SegmentationLoss, "__call__", loss)
    assert place.train(config_of(checkpoint={"everyEpochs": 1})) == ExitCode.NON_FINITE
    assert "the gradients' norm became nan in epoch 1, step 2, on the batch" in _message(place)
    assert ".png" in _message(place)
    for file in place.run_folder().glob("attempts/*/checkpoints/*/tensors.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values())


def test_a_validation_loss_that_is_no_number_names_the_batch(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SegmentationLoss.__call__

    def loss(self: SegmentationLoss, *args: Any, **more: Any) -> torch.Tensor:
        return real(self, *args, **more) * (1.0 if torch.is_grad_enabled() else float("inf"))

    monkeypatch.setattr(SegmentationLoss, "__call__", loss)
    assert place.train(config_of()) == ExitCode.NON_FINITE
    assert "the loss became inf in validation 1, on the batch" in _message(place)
    assert ".png" in _message(place)
    assert not list(place.run_folder().glob("attempts/*/epochs/*"))


def test_a_busy_port_is_named_with_the_way_out(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert place.train(config_of(), port=port) == ExitCode.CONFIGURATION
    assert f"port {port} of 127.0.0.1 is taken" in _message(place)
    assert "--port 0" in _message(place)


def test_a_workspace_that_is_not_there(place: Place) -> None:
    place.workspace = place.workspace / "nowhere"
    assert place.train(config_of()) == ExitCode.CONFIGURATION
    assert "is not a folder" in _message(place)


def test_memory_that_runs_out_has_its_code(place: Place) -> None:
    def exhaust(*_: Any) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "step", exhaust)
        assert place.train(config_of()) == ExitCode.OUT_OF_MEMORY
    assert "out of memory with one image at a time" in _message(place)
    assert "spec.training.imageSize" in _message(place)


def test_a_full_disk_leaves_the_last_good_checkpoint(place: Place) -> None:
    """The limit on a file's size stands for the disk's: the same call fails, for real."""
    assert place.train(config_of(training={"epochs": 1})) == 0
    good = {p: p.read_bytes() for p in place.run_folder().glob("attempts/*/checkpoints/*/*")}
    place.configure(config_of(attempt=2, training={"epochs": 2}))
    arguments = ["--no-server", "--config", str(place.config_file)]
    arguments += ["--workspace", str(place.workspace)]
    done = subprocess.run(
        [sys.executable, "-m", "kubeseg_trainer.cli", "train", *arguments],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == ExitCode.STORAGE, done.stdout + done.stderr
    assert "no room to write" in done.stdout
    assert "bytes)" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert all(path.read_bytes() == data for path, data in good.items())
    assert not list(place.run_folder().rglob(".tmp-*"))
    assert place.train(config_of(attempt=3, training={"epochs": 2})) == 0
    assert [entry.epoch for entry in place.history()] == [1, 2]


def test_a_last_batch_without_a_pixel_that_counts_is_no_error(place: Place) -> None:
    folder = place.workspace / "datasets/void"
    for index in range(5):
        image, mask = make_pair((40, 40), index)
        write_pair(folder, f"{index}", image, mask if index < 3 else np.full_like(mask, 9))
    config = config_of(dataset={"name": "void", "ignoreIndex": 9}, training={"batchSize": 1})
    assert place.train(config) == 0


def test_no_request_leaves_the_machine(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        asked.append(address)
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: asked.append(a))
    assert place.train(config_of()) == 0
    assert asked == []
