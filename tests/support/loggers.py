"""Reading back what loggers were told."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboardX.proto.event_pb2 import Event

from kubeseg_trainer.engine.loggers import mlflow as mlflow_logger


def events_of(file: Path) -> Iterator[Event]:
    """The records of an event file: length (8 bytes), CRC (4), the record, CRC (4)."""
    data, place = file.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event()
        event.ParseFromString(data[place + 12 : place + 12 + length])
        yield event
        place += 16 + length


def points_of(folder: Path) -> dict[str, dict[int, float]]:
    """Name → epoch → value of the files in `folder`; fails where an epoch is there twice."""
    points: dict[str, dict[int, float]] = {}
    for file in sorted(folder.iterdir()):
        for event in events_of(file):
            for value in event.summary.value:
                series = points.setdefault(value.tag, {})
                assert event.step not in series, (value.tag, event.step)
                series[event.step] = value.simple_value
    return points


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A local store of MLflow's, which MLFLOW_TRACKING_URI names."""
    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    # The client alone brings no other store; a trainer speaks to a server.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(mlflow_logger, "_LAST_WORDS", 60.0)
    return MlflowClient(uri)


def mlflow_runs(store: MlflowClient) -> list[Any]:
    """The runs that the store has of ours."""
    experiment = store.get_experiment_by_name("kubeseg")
    assert experiment is not None
    return list(store.search_runs([experiment.experiment_id]))
