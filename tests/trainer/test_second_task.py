"""The engine knows nothing of segmentation: another task trains, resumes and is exported by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from kubeseg_types.exit_codes import ExitCode
from tests.support.line_task import LineKind
from tests.support.trainings import Place, at_beat, config_of, terminate


def _config(**more: Any) -> dict[str, Any]:
    training = {"epochs": 3, "batchSize": 5, "accumulate": 2, "learningRate": 0.05}
    return config_of(training=training, **more)


@pytest.fixture
def nowhere(tmp_path: Path) -> Place:
    """An empty workspace: the task makes its own data."""
    return Place(tmp_path)


def test_another_task_is_trained_and_exported(nowhere: Place) -> None:
    assert nowhere.train(_config(), kind=LineKind()) == 0
    history = nowhere.history()
    assert [entry.epoch for entry in history] == [1, 2, 3]
    assert history[-1].train.loss < history[0].train.loss
    record = nowhere.record()
    assert record.class_names == ["below", "above"]
    assert set(record.versions) == {"kubeseg", "torch", "numpy", "python"}
    assert record.model is not None
    assert record.best is not None
    model = nowhere.workspace / record.model
    assert json.loads((model / "config.json").read_text())["epoch"] == record.best.epoch
    with safe_open(model / "model.safetensors", "pt") as file:
        assert file.metadata() == {"task": "line"}


@pytest.mark.parametrize("beat", [3, 6, 9, 15])
def test_it_resumes_bit_for_bit(nowhere: Place, tmp_path: Path, beat: int) -> None:
    whole = Place(tmp_path / "whole")
    assert whole.train(_config(), kind=LineKind(train=10, dropout=0.5, norm=True)) == 0
    with at_beat(beat, terminate):
        code = nowhere.train(_config(), kind=LineKind(train=10, dropout=0.5, norm=True))
    assert code == ExitCode.INTERRUPTED
    assert nowhere.train(_config(attempt=2), kind=LineKind(train=10, dropout=0.5, norm=True)) == 0
    theirs, mine = load_file(whole.weights(3)), load_file(nowhere.weights(3))
    assert {name: value.numpy().tobytes() for name, value in mine.items()} == {
        name: value.numpy().tobytes() for name, value in theirs.items()
    }
    assert [(e.train, e.validation) for e in nowhere.history()] == [
        (e.train, e.validation) for e in whole.history()
    ]
