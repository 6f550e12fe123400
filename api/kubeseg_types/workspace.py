"""The layout of the workspace volume: the one place that knows it.

    datasets/<name>/                 a data set, or <owner>/<name>
    studies/<id>/study.json          an id that the facade has given out (made exclusively)
    catalogue/models.json            the architectures on offer, once changed
    checks/<fingerprint>.json        what a look at a data set's files found
    checks/<fingerprint>.masks       the masks drawn from its annotations
    checks/<digest>.tried            a network that takes pictures of a size
    weights/<encoder>/<name>.safetensors   pretrained weights of encoders
    runs/<job>/<uid>/                one TrainingJob's run
        run.json                     what it is, and why it ended (`trainer.RunRecord`)
        attempts/<attempt>-<start>/  one start of one attempt, made exclusively
            metrics.jsonl            one `trainer.EpochRecord` a line, the whole history
            epochs/<epoch>.safetensors
            checkpoints/<epoch>-<step>/
        samples/<epoch>/             pictures of that epoch's predictions
        tensorboard/                 event files
        mlflow.json                  the run of the MLflow server that it is reported to
        model/                       the best model: config.json, model.safetensors, model.onnx
        check.json                   all that is wrong with its data set, if anything is
    runs/.removed-<job>-<uid>/       a run that is being removed

All functions return paths relative to the workspace, with forward slashes.
"""

from __future__ import annotations

import re

DATASETS = "datasets"
RUNS = "runs"
STUDIES = "studies"
CATALOGUE_MODELS = "catalogue/models.json"
CHECKS = "checks"
WEIGHTS = "weights"

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
ATTEMPTS = "attempts"
EPOCHS = "epochs"
CHECKPOINTS = "checkpoints"
MODEL = "model"
SAMPLES = "samples"
TENSORBOARD = "tensorboard"
MLFLOW_FILE = "mlflow.json"

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
#: The name of a data set: one path segment, or an owner's name and one.
DATASET_PATTERN = rf"^{_SEGMENT}(/{_SEGMENT})?$"
#: Folder names inside a data set, which no data set or owner may bear.
RESERVED_SEGMENTS = frozenset({"images", "masks", "train", "val", "test"})
_ATTEMPT = re.compile(r"^(\d{4,})-(\d{4,})$")


def dataset_name_error(name: str) -> str | None:
    """Why `name` can't be a data set's name, or None."""
    if not re.fullmatch(DATASET_PATTERN, name):
        return (
            f"must be letters, digits, '.', '_' or '-', beginning with a letter or digit, at most "
            f"128 of them, with at most one '/' after an owner's name: {name!r}"
        )
    for segment in name.split("/"):
        if segment.lower() in RESERVED_SEGMENTS:
            return f"must not be called {segment!r}, which is the name of a folder in a data set"
    return None


def dataset_dir(name: str) -> str:
    """Folder of the data set `name`."""
    return f"{DATASETS}/{name}"


def study_dir(study: str) -> str:
    """Folder that reserves the id `study`."""
    return f"{STUDIES}/{study}"


def run_dir(job: str, uid: str) -> str:
    """Folder of the run of the TrainingJob `job` with this UID."""
    return f"{RUNS}/{job}/{uid}"


def attempt_name(attempt: int, start: int) -> str:
    """Name of the folder of one start of one attempt; both count from 1, and names sort."""
    return f"{attempt:04d}-{start:04d}"


def parse_attempt_name(name: str) -> tuple[int, int] | None:
    """(attempt, start) of a folder's name, or None where it is no such folder."""
    match = _ATTEMPT.match(name)
    return (int(match[1]), int(match[2])) if match else None


def samples_dir(epoch: int) -> str:
    """Folder with the pictures of `epoch` (from 1), relative to the run's folder."""
    return f"{SAMPLES}/{epoch:05d}"


def epoch_file(epoch: int) -> str:
    """Weights of `epoch` (from 1), relative to the attempt's folder."""
    return f"{EPOCHS}/{epoch:05d}.safetensors"
