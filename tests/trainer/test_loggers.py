"""A training reports to TensorBoard and MLflow, across a break too."""

from __future__ import annotations

import logging
import socket

import pytest
from mlflow.tracking import MlflowClient

from kubeseg_trainer.engine.loggers import mlflow as mlflow_logger
from kubeseg_types.exit_codes import ExitCode
from tests.support.loggers import mlflow_runs, mlflow_store, points_of
from tests.support.trainings import Place, after_epoch, config_of, terminate

__all__ = ["mlflow_store"]


def test_both_have_each_epoch_once_after_a_break(place: Place, mlflow_store: MlflowClient) -> None:
    config = config_of(training={"epochs": 2})
    with after_epoch(1, terminate):
        assert place.train(config) == ExitCode.INTERRUPTED
    assert [run.info.status for run in mlflow_runs(mlflow_store)] == ["KILLED"]
    assert place.train({**config, "attempt": 2}) == 0

    history = place.history()
    points = points_of(place.run_folder() / "tensorboard")
    for name, values in (
        ("val/iou", [r.validation.iou for r in history]),
        ("val/recall", [r.validation.recall for r in history]),
        ("training/learning_rate", [r.learning_rate for r in history]),
        ("val_class_iou/0", [r.validation.class_iou[0] for r in history]),
    ):
        assert points[name] == {e: pytest.approx(v) for e, v in enumerate(values, 1)}, name
    (run,) = mlflow_runs(mlflow_store)
    assert (run.info.status, run.data.tags["kubeseg.attempt"]) == ("FINISHED", "2")
    told = mlflow_store.get_metric_history(run.info.run_id, "val/precision")
    precisions = {r.epoch: r.validation.precision for r in history}
    assert len(told) == len(history)
    assert {m.step: m.value for m in told} == pytest.approx(precisions)


def test_a_server_that_never_answers_costs_one_warning(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_logger, "_LAST_WORDS", 0.1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{port}")
        # Its first answer would be due after ten seconds: the end doesn't wait for it.
        assert place.train(config_of()) == 0
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len([w for w in warnings if "was not told of the last 2 epochs" in w]) == 1
    assert "secret" not in caplog.text
    assert not (place.run_folder() / "mlflow.json").exists()
