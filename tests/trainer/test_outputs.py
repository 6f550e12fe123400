"""What a run leaves: the test part's metrics, the ONNX file, the card, the record."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from kubeseg_trainer.cli import main
from kubeseg_trainer.config import parse_config
from kubeseg_trainer.engine.exporting import ExportRequest
from kubeseg_trainer.engine.loop import Loop
from kubeseg_trainer.engine.validate import weights_of_file
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_trainer.tasks.segmentation.data.colours import class_colors
from kubeseg_trainer.tasks.segmentation.data.normalisation import Normalisation
from kubeseg_trainer.tasks.segmentation.network.network import build_network
from kubeseg_trainer.tasks.segmentation.output import onnx_process
from kubeseg_trainer.tasks.segmentation.output.export import (
    DataFacts,
    export_model,
    weights_metadata,
)
from kubeseg_trainer.tasks.segmentation.output.model_info import info_of
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import MAX_TERMINATION_BYTES
from tests.support.datasets import make_dataset
from tests.support.trainings import Place, config_of, terminate


@pytest.fixture
def parted(place: Place) -> Place:
    """With the data set `parted`: six images in each of train, val and test."""
    make_dataset(place.workspace, "parted", parts=("train", "val", "test"))
    return place


def parted_config(**more: Any) -> dict[str, Any]:
    names = [{"name": "ground"}, {"name": "disc|round"}, {"name": "other"}]
    return config_of(dataset={"name": "parted", "classes": names}, **more)


@pytest.mark.slow
def test_all_that_a_run_leaves(parted: Place, caplog: pytest.LogCaptureFixture) -> None:
    """One training with everything on, and its second start, which does nothing twice."""
    caplog.set_level(logging.INFO)
    config = parted_config(export={"onnx": True})
    assert parted.train(config) == 0
    record, folder = parted.record(), parted.run_folder() / "model"

    # run.json
    assert record.test is not None
    assert record.test.samples == 6
    assert record.fingerprint
    reached = record.timings
    order = ["begun", "networkBuilt", "resumed", "firstStep", "firstEpoch", "trained", "tested",
             "exported", "ended"]  # fmt: skip
    assert [reached[name] for name in order] == sorted(reached[name] for name in order)
    assert {"imports", "dataChecked"} < reached.keys()
    assert record.versions["onnxruntime"] == onnxruntime.__version__
    onnx = record.export["onnx"]
    assert onnx["dynamic"] == ["batch", "height", "width"]
    assert [check["equalLabels"] for check in onnx["checks"]] == [1.0, 1.0]
    assert "underWay" not in record.export

    # The termination message and the log.
    assert parted.message()["test"]["iou"] == record.test.iou
    assert parted.termination_log.stat().st_size < MAX_TERMINATION_BYTES
    assert any(r.getMessage().startswith("test  loss") for r in caplog.records)

    # The ONNX file gives the labels that predict gives, fed as the card says.
    images = sorted((parted.workspace / "datasets/parted/test/images").iterdir())
    for model, out in ((folder, "a"), (folder / "model.onnx", "b"), (parted.run_folder(), "c")):
        target = ["--out", str(parted.workspace / out)]
        assert main(["predict", str(model), str(images[0].parent), *target]) == 0
    labels = [np.asarray(Image.open(parted.workspace / out / "000.png")) for out in "abc"]
    assert (labels[0] == labels[1]).mean() > 0.999
    assert np.array_equal(labels[0], labels[2])
    palette = Image.open(parted.workspace / "a/000.png").getpalette()
    assert palette is not None
    color = "#{:02x}{:02x}{:02x}".format(*palette[3:6])
    assert color == class_colors(None, 3)[1]

    # The card.
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "segmentation-models-pytorch"
    assert "license" not in head
    for text in (
        "On the validation part (6 images", "On the test part (6 images", r"disc\|round",
        "6 training, 6 validation, 6 test", "(curves.svg)", "onnxruntime.InferenceSession",
        "all 2 epochs are done", color, "![sample](samples/",
    ):  # fmt: skip
        assert text in card, text
    assert (folder / "curves.svg").read_text().startswith("<svg")

    # Started again with nothing left to do: neither is done again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "evaluate_test", _never)
        patch.setattr("kubeseg_trainer.tasks.segmentation.output.export.export_onnx", _never)
        assert parted.train({**config, "attempt": 2}) == 0
    again = parted.record()
    assert again.test == record.test
    assert again.export == record.export
    assert (folder / "model.onnx").is_file()


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError


def test_the_test_part_leaves_the_training_as_it_was() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    own = {name: value.clone() for name, value in network.state_dict().items()}
    others = {name: torch.ones_like(value) for name, value in own.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kubeseg_trainer.engine.validate.load_file", lambda _: others)
        with weights_of_file(network, Path("x")):
            assert all(bool((value == 1).all()) for value in network.state_dict().values())
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_a_data_set_without_a_test_part_has_no_such_metrics(place: Place) -> None:
    assert place.train(config_of()) == 0
    assert place.record().test is None
    assert "test" not in place.message()
    card = (place.run_folder() / "model/README.md").read_text()
    assert "there is no test part" in card
    assert "There is no ONNX file: not asked for" in card


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "import os; os.abort()"])
def test_a_failing_export_fails_no_training(
    place: Place, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(onnx_process, "_command", lambda *_: [sys.executable, "-c", program])
    assert place.train(config_of(export={"onnx": True})) == 0
    report = place.record().export["onnx"]
    assert report["file"] is None
    assert "its process" in report["reason"]
    names = {path.name for path in (place.run_folder() / "model").iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "curves.svg", "samples"}


def test_stopped_in_the_export_and_killed_in_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(onnx_process, "_command", lambda *_: wait)
    real, calls = onnx_process.export_onnx, Counter[str]()

    def stopped(*args: Any, **more: Any) -> dict[str, Any]:
        calls["export"] += 1
        if calls["export"] == 1:
            terminate()
            return real(*args, **more)
        # What a kill leaves: run.json as it stands now.
        saved.append((place.run_folder() / "run.json").read_bytes())
        return {"file": None, "reason": "none"}

    saved: list[bytes] = []
    monkeypatch.setattr("kubeseg_trainer.tasks.segmentation.output.export.export_onnx", stopped)
    config = config_of(export={"onnx": True})
    assert place.train(config) == ExitCode.INTERRUPTED
    assert place.record().export == {}
    assert not list(place.run_folder().glob(".tmp-*"))

    # An orderly stop: it is tried again.
    assert place.train({**config, "attempt": 2}) == 0
    assert calls["export"] == 2
    # A kill: it is left out, and the run succeeds.
    assert "underWay" in json.loads(saved[0])["export"]
    (place.run_folder() / "run.json").write_bytes(saved[0])
    assert place.train({**config, "attempt": 3}) == 0
    assert calls["export"] == 2
    assert "ended from outside" in place.record().export["onnx"]["reason"]


def test_the_pictures_of_the_best_epoch_come_with_the_model(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RunDirectory.write_record
    folder = "runs/tiny/u1/samples/00001"

    def write(self: RunDirectory, record: Any) -> None:
        (place.workspace / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place.workspace / folder / "a b.png")
        real(self, record)

    monkeypatch.setattr(RunDirectory, "write_record", write)
    best = Loop._finish_epoch

    def finish(self: Loop, *args: Any) -> None:
        best(self, *args)
        self.state.history[-1] = self.state.history[-1].model_copy(update={"samples": folder})

    monkeypatch.setattr(Loop, "_finish_epoch", finish)
    assert place.train(config_of(training={"epochs": 1}, export={"samples": 1})) == 0
    model = place.run_folder() / "model"
    assert (model / "samples/a b.png").is_file()
    assert "![sample](samples/a%20b.png)" in (model / "README.md").read_text()


def _with_channels(place: Place, folder: Path, channels: int) -> None:
    """Export a network for images of so many channels, as if the run `linknet` had trained it."""
    document = config_of(model={"architecture": "Unet", "inChannels": channels})
    config = parse_config(json.dumps(document))
    metadata = weights_metadata(
        config.model, config.dataset, "abc", epoch=1, image_size=32, image_mode="Resize",
        window_overlap=0.25, bits=16,
        normalisation=Normalisation((0.5,) * channels, (0.2,) * channels),
    )  # fmt: skip
    save_file(build_network(config.model, 3, 32).state_dict(), folder.with_suffix(".w"), metadata)
    history = place.history("linknet")
    request = ExportRequest(
        weights=folder.with_suffix(".w"), best=history[0], history=history, test=None,
        record=place.record("linknet"), why="done", samples=None, earlier=None, earlier_report={},
        complete=True, alive=lambda _: None,
    )  # fmt: skip
    folder.mkdir()
    data = DataFacts(images=[], counts={"training": 1}, class_pixels=[1, 2, 3])
    export_model(folder, request, config=config, info=info_of(metadata), data=data)


@pytest.mark.slow
def test_a_fresh_process_with_nothing_but_smp_opens_it(place: Place) -> None:
    folders = []
    for architecture in ("Linknet", "FPN", "PAN"):
        model = {"architecture": architecture, "encoder": "tu-test_resnet"}
        config = config_of(architecture.lower(), model=model, training={"epochs": 1})
        assert place.train(config) == 0
        folders.append(str(place.run_folder(architecture.lower()) / "model"))
    for channels in (1, 5):
        folders.append(str(place.workspace / f"channels-{channels}"))
        _with_channels(place, Path(folders[-1]), channels)
    code = (
        "import json, sys, torch, segmentation_models_pytorch as smp\n"
        "for folder in sys.argv[1:]:\n"
        "    model = smp.from_pretrained(folder).eval()\n"
        "    channels = json.load(open(folder + '/config.json'))['in_channels']\n"
        "    shape = model(torch.zeros(1, channels, 128, 128)).shape\n"
        "    print('made', type(model).__name__, channels, *shape)\n"
    )
    # -I: no PYTHONPATH, no folder of ours.
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *folders], capture_output=True, text=True, check=True
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("made")] == [
        f"made {name} 1 3 128 128" for name in ("Linknet 3", "FPN 3", "PAN 3", "Unet 1", "Unet 5")
    ]
