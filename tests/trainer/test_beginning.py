"""What a run begins with: another run's epoch, pretrained weights, or neither."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save, save_file

from kubeseg_trainer.tasks.segmentation.network import hub
from kubeseg_trainer.tasks.segmentation.network.init_from import Source, adapt_channels, load_source
from kubeseg_trainer.tasks.segmentation.network.network import build_network
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.spec import Model
from tests.support.datasets import make_dataset
from tests.support.trainings import MODEL, Place, config_of

ENCODER = "tu-test_resnet"
ALL = {"checkpoint": {"keepEpochs": True}}


def first_weights(job: str, *, seed: int = 0, **training: Any) -> dict[str, Any]:
    """A job that learns next to nothing: its first epoch shows what it began with."""
    learning = {"epochs": 1, "learningRate": 1e-12, "seed": seed, **training}
    return config_of(job, training=learning | {"optimizer": {"weightDecay": 0}})


def parameters(file: Path) -> dict[str, torch.Tensor]:
    """What is learnt: no statistics, which move whatever the learning rate."""
    return {
        name: value
        for name, value in load_file(file).items()
        if "running_" not in name and "num_batches" not in name
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that differ."""
    return [
        name
        for name, value in one.items()
        if value.shape != other[name].shape or not torch.allclose(value, other[name], atol=1e-6)
    ]


def message(place: Place) -> str:
    return str(place.message()["message"])


def test_a_run_begins_with_another_one_s_epoch(place: Place) -> None:
    assert place.train(config_of("first", **ALL)) == 0
    second = {"initFrom": {"job": "first", "epoch": "1"}}
    assert place.train(first_weights("second", seed=7) | second) == 0, message(place)
    began = parameters(place.weights(1, "second"))
    assert same(began, parameters(place.weights(1, "first"))) == []
    # Begun again from its own checkpoint, it needs the other run no more.
    (place.weights(1, "first")).unlink()
    more = first_weights("second", seed=7, epochs=2) | second | {"attempt": 2}
    assert place.train(more) == 0, message(place)
    assert [entry.epoch for entry in place.history("second")] == [1, 2]
    # But it stays the run that it was.
    assert place.train(first_weights("second", seed=7, epochs=3) | {"attempt": 3}) == (
        ExitCode.CONFIGURATION
    )
    assert "spec.initFrom: must stay as in the run" in message(place)


def test_other_classes_keep_what_fits(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert place.train(config_of("first")) == 0
    make_dataset(place.workspace, "five", count=6, classes=5)
    config = first_weights("second") | {"initFrom": {"job": "first"}}
    config["dataset"] = {"name": "five", "classes": [{"name": f"c{i}"} for i in range(5)]}
    assert place.train(config) == 0, message(place)
    best = place.record("first").best_weights
    assert best is not None
    differ = same(parameters(place.weights(1, "second")), parameters(place.workspace / best.path))
    assert differ
    assert all(name.startswith("segmentation_head.") for name in differ)
    assert "at their random start" in caplog.text
    assert "segmentation_head.0.weight" in caplog.text


@pytest.mark.parametrize(("theirs", "ours"), [(3, 1), (3, 5), (1, 3)])
def test_weights_for_other_channels_are_adapted(tmp_path: Path, theirs: int, ours: int) -> None:
    torch.manual_seed(1)
    before = build_network(Model.model_validate({**MODEL, "inChannels": theirs}), 2, 32)
    file = tmp_path / "00001.safetensors"
    data = save(before.state_dict(), metadata={"inChannels": str(theirs)})
    file.write_bytes(data)
    model = Model.model_validate({**MODEL, "inChannels": ours})
    network = build_network(model, 2, 32)
    source = Source("first, epoch 1", file, hashlib.sha256(data).hexdigest(), model)
    load_source(network, source, model)
    other = before.state_dict()
    changed = {k: v for k, v in network.state_dict().items() if v.shape != other[k].shape}
    assert same({k: v for k, v in network.state_dict().items() if k not in changed}, other) == []
    ((name, value),) = changed.items()
    assert torch.equal(value, adapt_channels(other[name], ours))
    network(torch.zeros(2, ours, 32, 32))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"initFrom": {"job": "fist"}}, "no run of 'fist'. Did you mean \"first\"? There: first"),
        ({"initFrom": {"job": "second"}}, "second is this job itself"),
        ({"initFrom": {"job": "first", "epoch": "9"}}, "it has 3 epochs. Epochs whose weights are"),
        ({"initFrom": {"job": "first", "epoch": "2"}}, "epoch 2's weights are not kept"),
        (
            {"initFrom": {"job": "first"}, "model": {**MODEL, "architecture": "FPN"}},
            "first, epoch 1 is Linknet on tu-test_resnet, this job FPN on tu-test_resnet",
        ),
        ({"model": {**MODEL, "encoderWeights": "nothing"}}, "there are r160_in1k"),
    ],
)
def test_what_a_run_cannot_begin_with_is_refused(
    place: Place, change: dict[str, Any], sentence: str
) -> None:
    assert place.train(config_of("first", training={"epochs": 3})) == 0
    best = place.record("first").best
    assert best is not None
    if "epoch 2's" in sentence:
        place.weights(2, "first").unlink(missing_ok=True)
    config = config_of("second", **{k: v for k, v in change.items() if k == "model"})
    config |= {k: v for k, v in change.items() if k == "initFrom"}
    assert place.train(config) == ExitCode.CONFIGURATION
    told = message(place)
    assert sentence.replace("epoch 1 is", f"epoch {best.epoch} is") in told
    assert "There: first, second" not in told


def test_damaged_weights_of_another_run_are_refused(place: Place) -> None:
    assert place.train(config_of("first")) == 0
    file = place.weights(2, "first")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    config = config_of("second") | {"initFrom": {"job": "first", "epoch": "last"}}
    assert place.train(config) == ExitCode.CONFIGURATION
    assert "doesn't match the hash" in message(place)


def pretrained() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return {
            name: value.contiguous()
            for name, value in timm.create_model("test_resnet").state_dict().items()
        }


def test_pretrained_weights_of_the_workspace_get_into_the_encoder_alone(place: Place) -> None:
    folder = place.workspace / "weights" / ENCODER
    folder.mkdir(parents=True)
    tensors = pretrained()
    save_file(tensors, folder / "cells.safetensors")
    config = first_weights("begun", seed=3)
    assert place.train(config | {"model": {**MODEL, "encoderWeights": "cells"}}) == 0
    began = parameters(place.weights(1, "begun"))
    torch.manual_seed(3)
    random = build_network(Model.model_validate(MODEL), 3, 32).state_dict()
    first = next(name for name in began if name.endswith(("conv1.0.weight", "conv1_0.weight")))
    assert torch.allclose(began[first], tensors["conv1.0.weight"])
    differ = same(began, random)
    assert differ
    assert all(name.startswith("encoder.") for name in differ)


@contextmanager
def served(answer: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A hub on this machine; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class Hub(http.server.BaseHTTPRequestHandler):
    """The two calls of a hub's download, for one file."""

    content = b""

    def _head(self) -> bool:
        there = self.path.startswith("/timm/test_resnet.r160_in1k/resolve/") and (
            self.path.endswith("/model.safetensors")
        )
        self.send_response(200 if there else 404)
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.content) if there else 0))
        if not there:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        return there

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        if self._head():
            self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's output."""


def fetch(place: Place, address: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
    command = hub.fetch_command(ENCODER, "imagenet", place.workspace)
    return subprocess.run(
        [sys.executable, "-m", "kubeseg_trainer.cli", *command],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_weights_are_fetched_from_a_hub_once(place: Place, tmp_path: Path) -> None:
    tensors = pretrained()
    with served(type("Full", (Hub,), {"content": save(tensors)})) as address:
        done = fetch(place, address, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = load_file(place.workspace / "weights" / ENCODER / "imagenet.safetensors")
    assert same(kept, tensors) == []
    # The workspace has them now: no hub is asked, and there is none any more.
    assert hub.fetch(place.workspace, ENCODER, "imagenet").name == "imagenet.safetensors"


@pytest.mark.slow
def test_a_hub_that_refuses_is_said_with_the_remedy(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        config = config_of(model={**MODEL, "encoderWeights": "imagenet"})
        assert place.train(config) == ExitCode.CONFIGURATION
    said = message(place)
    assert f"weights/{ENCODER}/imagenet.safetensors" in said
    assert (
        f"kubeseg-trainer weights fetch --encoder {ENCODER} --name imagenet --workspace DIR" in said
    )
    assert json.loads((place.run_folder() / "run.json").read_text())["state"] == "Failed"


def test_waiting_for_a_hub_ends_with_a_signal(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

        def beat() -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            hub.fetch_apart(place.workspace, ENCODER, "imagenet", beat)
