"""Stopped, killed, resumed: bit for bit what an uninterrupted run gives."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kubeseg_trainer.engine.decisions import checkpoint_due
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.training import CheckpointPolicy
from tests.support.trainings import Place, at_beat, config_of, terminate

#: Dropout, so that the random state counts, and everything that has a state of its own.
FULL: dict[str, Any] = {
    "model": {"architecture": "FPN", "encoder": "tu-test_resnet"},
    "training": {"epochs": 3, "accumulate": 2, "augmentation": {"preset": "Medium"}, "clip": 1.0},
}
#: Beats until the first step, where nothing is cached yet: 9 pairs are looked at, then decoded.
SCANNED = 18


def _scores(place: Place) -> list[Any]:
    return [(entry.train, entry.validation, entry.learning_rate) for entry in place.history()]


def _digests(place: Place, epoch: int) -> dict[str, str]:
    tensors = load_file(place.weights(epoch))
    return {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in tensors.items()
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[str, str]]:
    from tests.support.datasets import make_dataset

    place = Place(tmp_path_factory.mktemp("whole"))
    make_dataset(place.workspace, count=9)
    assert place.train(config_of(**FULL)) == 0
    return _scores(place), _digests(place, 3)


#: Counted in beats after the scan and the decoding: 3 steps of 2 parts, then 2 of validation …
@pytest.mark.parametrize(
    ("beat", "where"),
    [
        (2, "in the scan"),
        (12, "while the cache is made"),
        (SCANNED + 2, "in the first step"),
        (SCANNED + 5, "in the second step, between its parts"),
        (SCANNED + 7, "after the last step"),
        (SCANNED + 9, "in the validation"),
        (SCANNED + 16, "in the second epoch"),
    ],
)
def test_sigterm_anywhere_then_resume_equals_no_break(
    place: Place, uninterrupted: tuple[list[Any], dict[str, str]], beat: int, where: str
) -> None:
    with at_beat(beat, terminate):
        assert place.train(config_of(**FULL)) == ExitCode.INTERRUPTED, where
    assert place.record().state == "Interrupted"
    assert place.message()["reason"] == "Interrupted"
    assert place.train(config_of(attempt=2, **FULL)) == 0
    assert _scores(place) == uninterrupted[0]
    assert _digests(place, 3) == uninterrupted[1]


def test_a_damaged_checkpoint_is_skipped_and_the_one_before_taken(
    place: Place,
    uninterrupted: tuple[list[Any], dict[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shorter = {**FULL, "training": {**FULL["training"], "epochs": 2}}
    assert place.train(config_of(**shorter)) == 0
    newest = max(place.run_folder().glob("attempts/*/checkpoints/*"))
    tensors = newest / "tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    data[len(data) // 2] ^= 1
    tensors.write_bytes(data)
    # The schedule depends on `epochs`, so a shorter run's first epochs are others: compare the
    # position alone.
    assert place.train(config_of(attempt=2, **FULL)) == 0
    assert "doesn't match its hash" in caplog.text
    assert [entry.attempt for entry in place.history()] == [1, 2, 2]


def test_sigkill_in_the_middle_of_an_epoch_then_resume_equals_no_break(
    place: Place, uninterrupted: tuple[list[Any], dict[str, str]], tmp_path: Path
) -> None:
    place.configure(config_of(**FULL))
    program = (
        "import os, signal, sys\n"
        "from kubeseg_trainer.cli import main\n"
        "from tests.support.trainings import at_beat\n"
        f"with at_beat({SCANNED + 20}, lambda: os.kill(os.getpid(), signal.SIGKILL)):\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["train", "--config", str(place.config_file), "--workspace", str(place.workspace)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--no-server"],
        cwd=root,
        timeout=120,
        check=False,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr.decode()
    assert place.record().state == "Running"
    assert place.train(config_of(**FULL)) == 0
    assert place.record().start == 2
    assert _scores(place) == uninterrupted[0]
    assert _digests(place, 3) == uninterrupted[1]


def test_moments_keep_the_memory_format_of_their_parameters(place: Place) -> None:
    from kubeseg_trainer.engine.optimizer import (
        load_optimizer_state,
        make_optimizer,
        optimizer_state,
    )
    from kubeseg_types.training import Training

    layer = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    training = Training(epochs=1)
    optimizer = make_optimizer(layer, training)
    layer(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    stored = {k: v.clone().contiguous() for k, v in optimizer_state(layer, optimizer).items()}
    again = make_optimizer(layer, training)
    load_optimizer_state(layer, again, stored)
    moment = again.state[layer.weight]["exp_avg"]
    assert moment.stride() == layer.weight.stride()
    assert torch.equal(moment, optimizer.state[layer.weight]["exp_avg"])


def test_an_older_attempt_ends_when_it_sees_a_newer(place: Place) -> None:
    def newer() -> None:
        (place.run_folder() / "attempts" / "0002-0001").mkdir()

    with at_beat(SCANNED + 4, newer):
        assert place.train(config_of(**FULL)) == ExitCode.SUPERSEDED
    # Its record is the newer one's business by now.
    assert place.record().state == "Running"
    assert place.train(config_of(**FULL)) == ExitCode.SUPERSEDED


def test_another_training_under_the_same_name_is_refused(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert place.train(config_of(training={"epochs": 1})) == 0
    other = config_of(attempt=2, training={"epochs": 1, "learningRate": 0.5})
    assert place.train(other) == ExitCode.CONFIGURATION
    assert "spec.training.learningRate: must stay as in the run that is there" in caplog.text


def test_a_smaller_part_of_a_batch_is_no_other_training(place: Place) -> None:
    assert place.train(config_of(training={"epochs": 1})) == 0
    assert place.train(config_of(attempt=2, training={"epochs": 2, "accumulate": 2})) == 0


def test_checkpoints_within_an_epoch_by_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def due(policy: CheckpointPolicy, seconds: float) -> bool:
        asked.append(seconds)
        return checkpoint_due(policy, seconds + 11 * len(asked))

    monkeypatch.setattr("kubeseg_trainer.engine.loop.checkpoint_due", due)
    config = config_of(training={"epochs": 1}, checkpoint={"everySeconds": 10, "keepLast": 100})
    assert place.train(config) == 0
    names = sorted(path.name for path in place.run_folder().glob("attempts/*/checkpoints/*"))
    assert any(name.startswith("00000-") for name in names), names
    assert names[-1].startswith("00001-")


def test_loader_processes_change_nothing(
    place: Place,
    uninterrupted: tuple[list[Any], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does a break in between, nor another number of them."""
    monkeypatch.setattr("kubeseg_trainer.assembly.loader_workers", lambda *_: 2)
    with at_beat(SCANNED + 16, terminate):
        assert place.train(config_of(**FULL)) == ExitCode.INTERRUPTED
    monkeypatch.setattr("kubeseg_trainer.assembly.loader_workers", lambda *_: 1)
    assert place.train(config_of(attempt=2, **FULL)) == 0
    assert _scores(place) == uninterrupted[0]
    assert _digests(place, 3) == uninterrupted[1]
