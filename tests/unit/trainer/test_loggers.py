"""TensorBoard's files and MLflow's runs, across starts, failures and servers that are away."""

from __future__ import annotations

import errno
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboardX.proto.event_pb2 import SessionLog

from kubeseg_trainer.engine.loggers import mlflow as mlflow_logger
from kubeseg_trainer.engine.loggers.mlflow import Identity, MlflowLogger, flat, metric_key, public
from kubeseg_trainer.engine.loggers.tensorboard import TensorBoardLogger
from kubeseg_types.trainer import EpochRecord, TrainerConfig
from tests.support.loggers import events_of, mlflow_runs, mlflow_store, points_of
from tests.unit.trainer.test_decisions import history

__all__ = ["mlflow_store"]
NAMES = ["ground", "n/a"]


def _log(logger: TensorBoardLogger | MlflowLogger, records: list[EpochRecord]) -> None:
    for count in range(len(records)):
        logger.log(records[: count + 1])


def test_tensorboard_finds_each_epoch_once_also_those_done_again(tmp_path: Path) -> None:
    first = TensorBoardLogger(tmp_path, NAMES, start="0001-0001")
    _log(first, history(0.1, 0.2, 0.3))
    first.close("Interrupted")
    (old,) = tmp_path.iterdir()
    # The third epoch was not in the checkpoint, and comes out otherwise.
    second = TensorBoardLogger(tmp_path, NAMES, start="0002-0001")
    assert list(tmp_path.iterdir()) == [old]
    records = history(0.1, 0.2, 0.35, 0.4)
    second.log(records[:3])
    second.log(records)
    second.close("Succeeded")

    (new,) = tmp_path.iterdir()
    assert new != old
    points = points_of(tmp_path)
    assert points["val/iou"] == {
        e: pytest.approx(v) for e, v in zip((1, 2, 3, 4), (0.1, 0.2, 0.35, 0.4), strict=True)
    }
    assert set(points["val_class_iou/n/a"]) == {1, 2, 3, 4}
    # A TensorBoard that is open forgets what it read from the file before.
    marks = [e for e in events_of(new) if e.HasField("session_log")]
    assert [(m.step, m.session_log.status) for m in marks] == [(1, SessionLog.START)]


def test_a_full_disk_ends_tensorboards_file_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    logger = TensorBoardLogger(tmp_path, NAMES, start="0001-0001")
    _log(logger, history(0.1, 0.2))
    logger.close("Succeeded")
    assert caplog.text.count("can't be written") == 1
    assert "No space left on device; the training goes on" in caplog.text


def _identity(folder: Path, **training: Any) -> Identity:
    config = {
        "job": "streets",
        "uid": "u1",
        "model": {},
        "dataset": {"name": "d"},
        "training": {"epochs": 3, **training},
    }
    return Identity(TrainerConfig.model_validate(config), NAMES, folder / "mlflow.json")


def _told(store: MlflowClient, run: Any) -> dict[int, float]:
    points = store.get_metric_history(run.info.run_id, "val/iou")
    assert max(Counter(point.step for point in points).values()) == 1
    return {point.step: point.value for point in points}


def test_mlflow_gets_one_run_which_the_next_start_continues(
    tmp_path: Path, mlflow_store: MlflowClient
) -> None:
    uri = str(mlflow_store.tracking_uri)
    first = MlflowLogger(uri, _identity(tmp_path))
    _log(first, history(0.1, 0.2))
    first.close("Interrupted")
    (run,) = mlflow_runs(mlflow_store)
    assert (run.info.status, run.info.run_name) == ("KILLED", "streets")
    assert run.data.tags["kubeseg.uid"] == "u1"
    assert run.data.params["training.epochs"] == "3"

    # Epoch 2 is done again; `epochs` has been raised, which the server can't take for a parameter.
    second = MlflowLogger(uri, _identity(tmp_path, epochs=4))
    _log(second, history(0.1, 0.2, 0.3))
    second.close("Succeeded")
    (run,) = mlflow_runs(mlflow_store)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "3"
    assert _told(mlflow_store, run) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert run.data.metrics["val_class_iou/ground"] == 0.3

    # Removed on the server: made anew, with all of it.
    mlflow_store.delete_run(run.info.run_id)
    third = MlflowLogger(uri, _identity(tmp_path))
    third.log(history(0.1, 0.2, 0.3, 0.4))
    third.close("Running")
    (run,) = mlflow_runs(mlflow_store)
    assert run.info.status == "RUNNING"
    assert set(_told(mlflow_store, run)) == {1, 2, 3, 4}


def test_a_server_that_is_down_is_told_later(
    tmp_path: Path, mlflow_store: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    class Flaky(MlflowLogger):
        def _connect(self) -> MlflowClient:
            tries.append("")
            if len(tries) < 3:
                raise ConnectionError(f"refused by {self._uri}")
            return super()._connect()

    logger = Flaky(str(mlflow_store.tracking_uri), _identity(tmp_path), retry=0.05)
    _log(logger, history(0.1, 0.2, 0.3))
    deadline = time.monotonic() + 60
    while logger._told < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    logger.close("Succeeded")
    (run,) = mlflow_runs(mlflow_store)
    assert _told(mlflow_store, run) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert run.info.status == "FINISHED"
    assert caplog.text.count("can't be told of this run: refused by") == 1
    assert "was not told" not in caplog.text


def test_without_the_package_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@mlflow.example/x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert mlflow_logger.start_mlflow(None) is None  # type: ignore[arg-type] # not looked at
    assert "MLFLOW_TRACKING_URI is set, but the package mlflow-skinny" in caplog.text
    assert "http://mlflow.example/x. Install kubeseg[mlflow]" in caplog.text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("val/iou", "val/iou"),
        ("val_class_iou/n/a", "val_class_iou/n_a"),
        ("val_class_iou/..", "val_class_iou/_"),
        ("val_class_iou/road (wet)", "val_class_iou/road _wet_"),
        ("val_class_iou/道路", "val_class_iou/道路"),
    ],
)
def test_keys_that_mlflow_takes(name: str, key: str) -> None:
    assert metric_key(name) == key


def test_parameters_are_flat_and_addresses_bear_no_password() -> None:
    document = {"a": {"b": 1, "c": None, "d": [1, "x"]}, "e": "text", "f": True}
    assert flat(document) == {"a.b": "1", "a.d": json.dumps([1, "x"]), "e": "text", "f": "true"}
    assert public("https://u:p@host:1/x") == "https://host:1/x"
    assert public("databricks") == "databricks"
