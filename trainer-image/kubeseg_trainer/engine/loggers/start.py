"""Which loggers a run has."""

from __future__ import annotations

from collections.abc import Sequence

from kubeseg_trainer.engine.loggers.logger import EpochLogger
from kubeseg_trainer.engine.loggers.mlflow import Identity, start_mlflow
from kubeseg_trainer.engine.loggers.tensorboard import TensorBoardLogger
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types import workspace
from kubeseg_types.trainer import TrainerConfig


def start_loggers(
    config: TrainerConfig, run: RunDirectory, class_names: Sequence[str]
) -> list[EpochLogger]:
    """TensorBoard's files always, MLflow where MLFLOW_TRACKING_URI names a server."""
    folder = run.base / workspace.TENSORBOARD
    loggers: list[EpochLogger] = [TensorBoardLogger(folder, class_names, start=run.name)]
    mlflow = start_mlflow(Identity(config, class_names, run.base / workspace.MLFLOW_FILE))
    if mlflow is not None:
        loggers.append(mlflow)
    return loggers
