"""Precision: what Auto takes and remembers, float16 with its scaler, what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kubeseg_trainer.engine import precision, preparation
from kubeseg_trainer.engine.precision import Scaler, faster
from kubeseg_trainer.tasks.segmentation.network.losses import SegmentationLoss
from kubeseg_types.exit_codes import ExitCode
from tests.support.trainings import Place, at_beat, config_of, in_training, terminate

SCANNED = 9


def _digests(place: Place) -> dict[str, str]:
    newest = max(place.run_folder().glob("attempts/*/checkpoints/*"))
    return {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest()
        for name, value in load_file(newest / "tensors.safetensors").items()
    }


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.0, 0.5), "BFloat16"), ((1.0, 0.95), "Float32"), ((1.0, 2.0), "Float32")],
)
def test_half_precision_must_be_clearly_faster(seconds: tuple[float, float], expected: str) -> None:
    assert faster({"Float32": seconds[0], "BFloat16": seconds[1]}, "BFloat16") == expected


def test_auto_measures_once_and_a_resumed_run_takes_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU that claims matrix units; the trial is real, its verdict is not left to chance."""
    monkeypatch.setattr(preparation, "worth_a_trial", lambda _: "BFloat16")
    # One round after the one of warming up: 4 beats.
    monkeypatch.setattr(precision, "TRIAL_SECONDS", 0.0)
    measured: list[dict[Any, float]] = []

    def verdict(seconds: dict[Any, float], candidate: Any) -> Any:
        measured.append(seconds)
        return candidate

    monkeypatch.setattr(preparation, "faster", verdict)
    config = config_of(training={"epochs": 2, "batchSize": 4, "precision": "Auto"})
    assert place.train(config) == 0
    assert all(0 < measured[0][name] < 60 for name in ("Float32", "BFloat16"))
    whole = _digests(place)
    second = Place(place.workspace.parent / "second")
    (second.workspace / "datasets").symlink_to(place.workspace / "datasets")
    with in_training(2, terminate):
        assert second.train(config) == ExitCode.INTERRUPTED
    monkeypatch.setattr(preparation, "worth_a_trial", lambda _: None)
    assert second.train({**config, "attempt": 2}) == 0
    assert len(measured) == 2
    assert _digests(second) == whole


def test_a_trial_leaves_the_network_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(training={"epochs": 1, "precision": "Auto"})
    monkeypatch.setattr(preparation, "worth_a_trial", lambda _: None)
    assert place.train(config) == 0
    plain = _digests(place)
    second = Place(place.workspace.parent / "second")
    (second.workspace / "datasets").symlink_to(place.workspace / "datasets")
    monkeypatch.setattr(preparation, "worth_a_trial", lambda _: "BFloat16")
    monkeypatch.setattr(preparation, "faster", lambda *_: "Float32")
    assert second.train(config) == 0
    assert _digests(second) == plain


def test_no_clock_decides_in_deterministic_mode(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(preparation, "worth_a_trial", lambda _: "BFloat16")
    monkeypatch.setattr(preparation, "measure", never)
    try:
        training = {"epochs": 1, "deterministic": True, "precision": "Auto"}
        assert place.train(config_of(training=training)) == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_float16_resumes_bit_for_bit_and_outlives_a_step_that_overflows(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU that would emulate it: slow, and the same numbers."""
    monkeypatch.setattr(precision, "supports", lambda *_: True)
    real, calls = SegmentationLoss.__call__, 0

    def loss(self: SegmentationLoss, *args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(self, *args) * (float("inf") if calls == 2 else 1.0)

    monkeypatch.setattr(SegmentationLoss, "__call__", loss)
    config = config_of(training={"epochs": 2, "precision": "Float16", "clip": 1.0})
    assert place.train(config) == 0
    assert place.history()[0].train.loss < 100
    whole = _digests(place)
    newest = max(place.run_folder().glob("attempts/*/checkpoints/*"))
    held = load_file(newest / "tensors.safetensors")
    # 65,536, halved for the one step that was skipped.
    assert held["scaler/scale"].item() == 32768
    assert held["scaler/skipped"].item() == 0
    calls = 0
    second = Place(place.workspace.parent / "second")
    (second.workspace / "datasets").symlink_to(place.workspace / "datasets")
    with at_beat(SCANNED + 4, terminate):
        assert second.train(config) == ExitCode.INTERRUPTED
    assert second.train({**config, "attempt": 2}) == 0
    assert _digests(second) == whole


def test_float16_that_always_overflows_ends_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "supports", lambda *_: True)
    monkeypatch.setattr(Scaler, "LIMIT", 3)
    real = SegmentationLoss.__call__
    monkeypatch.setattr(SegmentationLoss, "__call__", lambda *args: real(*args) * float("inf"))
    assert place.train(config_of(training={"precision": "Float16"})) == ExitCode.NON_FINITE
    assert "3 steps in a row" in place.message()["message"]


def test_float16_that_a_cpu_lacks_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "supports", lambda *_: False)
    assert place.train(config_of(training={"precision": "Float16"})) == ExitCode.CONFIGURATION
    assert "spec.training.precision: must be Auto or Float32 here" in place.message()["message"]
