"""What operator, trainer and facade tell each other about a run.

`TrainerConfig` goes in (the pod's annotation), `Progress` and `TerminationMessage` come back,
`EpochRecord` (a line of metrics.jsonl) and `RunRecord` (run.json) stay in the workspace.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kubeseg_types.base import Contract, Lenient, Timestamp
from kubeseg_types.spec import Dataset, Export, InitFrom, Model, TrainingJobSpec
from kubeseg_types.status import CheckpointPointer, EpochMetrics
from kubeseg_types.training import CheckpointPolicy, Training


class TrainerConfig(Contract):
    """All that a trainer needs to know; `stop`, `training.epochs`, `training.earlyStopping` and
    `checkpoint` may change while it runs, with a higher `generation`.
    """

    format_version: Literal[1] = 1
    namespace: str = "default"
    job: str
    uid: str
    attempt: int = Field(default=1, ge=1)
    generation: int = Field(default=1, ge=0)
    model: Model
    dataset: Dataset
    training: Training
    checkpoint: CheckpointPolicy = Field(default_factory=CheckpointPolicy)
    export: Export = Field(default_factory=Export)
    init_from: InitFrom | None = None
    stop: bool = False
    annotations: dict[str, str] = Field(
        default_factory=dict, description="The job's own kubeseg.dev annotations, for run.json."
    )


def trainer_config(
    spec: TrainingJobSpec,
    *,
    namespace: str,
    job: str,
    uid: str,
    attempt: int,
    generation: int,
    annotations: dict[str, str] | None = None,
) -> TrainerConfig:
    """The configuration of the trainer that runs `attempt` of this TrainingJob."""
    return TrainerConfig(
        namespace=namespace,
        job=job,
        uid=uid,
        attempt=attempt,
        generation=generation,
        model=spec.model,
        dataset=spec.dataset,
        training=spec.training,
        checkpoint=spec.checkpoint,
        export=spec.export,
        init_from=spec.init_from,
        stop=spec.stop,
        annotations=annotations or {},
    )


#: What is read of an untrusted pod is bounded: a list that is too long is one error, not thousands.
_MAX_CLASSES = 256


class WeightsFile(Lenient):
    """A weights file of one epoch."""

    path: str = Field(description="Relative to the workspace.")
    sha256: str
    bytes: int


class Part(Lenient):
    """Metrics of one part of the data over one epoch, from summed confusion counts."""

    loss: float
    dice: float
    iou: float
    samples: int
    class_dice: list[float | None] = Field(
        max_length=_MAX_CLASSES,
        description="Per class; None where neither truth nor prediction holds the class.",
    )
    class_iou: list[float | None] = Field(max_length=_MAX_CLASSES)
    precision: float | None = Field(default=None, description="Mean over the classes that occur.")
    recall: float | None = None
    class_precision: list[float | None] = Field(
        default_factory=list,
        max_length=_MAX_CLASSES,
        description="0 where a class that is there was never predicted; None as for class_dice.",
    )
    class_recall: list[float | None] = Field(
        default_factory=list,
        max_length=_MAX_CLASSES,
        description="0 where a class was predicted that is not there; None as for class_dice.",
    )


class EpochRecord(Lenient):
    """One finished epoch: a line of metrics.jsonl."""

    epoch: int = Field(description="From 1.")
    step: int = Field(description="Optimizer steps since the run began.")
    train: Part
    validation: Part
    learning_rate: float
    seconds: float = Field(
        description="Of the training pass, waiting for data and checkpoints within it included."
    )
    samples_per_second: float = Field(description="Over those seconds.")
    validation_seconds: float | None = Field(default=None, description="Of the validation pass.")
    time: Timestamp
    attempt: int
    start: int
    weights: WeightsFile | None = None
    waiting: float | None = Field(
        default=None, description="Share of the training time spent waiting for data, 0 to 1."
    )
    memory_bytes: int | None = Field(default=None, description="Largest so far, of GPU or process.")
    batch_size: int | None = Field(default=None, description="Images a step, over all workers.")
    accumulate: int | None = Field(default=None, description="Parts a step is computed in.")
    samples: str | None = Field(
        default=None,
        description="Folder with this epoch's pictures, relative to the workspace; those of most "
        "older epochs are removed, so look whether it is there.",
    )

    def metrics(self) -> EpochMetrics:
        """The scalars of this epoch."""
        return EpochMetrics(
            epoch=self.epoch,
            train_loss=self.train.loss,
            train_dice=self.train.dice,
            train_iou=self.train.iou,
            val_loss=self.validation.loss,
            val_dice=self.validation.dice,
            val_iou=self.validation.iou,
        )


class Progress(Lenient):
    """Reply of `GET /progress` of a trainer.

    `?seq=N&wait=S` answers at once where `seq` is above N, else at the next change of `seq` (an
    epoch's end, a checkpoint, a change of configuration, the end), at the latest after S seconds.
    """

    format_version: int = 1
    seq: int
    job: str
    uid: str
    attempt: int
    start: int
    state: Literal["Starting", "Training", "Validating", "Saving", "Finished"]
    epoch: int = Field(description="Epochs finished.")
    epochs: int
    step: int
    steps_per_epoch: int
    start_epoch: int = Field(default=0, description="Epochs finished as this start began.")
    generation: int = Field(description="Generation of the configuration that is followed.")
    batch_size: int
    accumulate: int
    eta_seconds: float | None = None
    samples_per_second: float | None = None
    waiting: float | None = None
    memory_bytes: int | None = None
    workers: int = Field(default=1, description="Processes that train together.")
    notes: list[str] = Field(
        default_factory=list,
        max_length=16,
        description="What the trainer changed by itself to go on, such as a halved batch.",
    )
    class_names: list[str] = Field(default_factory=list, max_length=_MAX_CLASSES)
    last: EpochRecord | None = None
    best: EpochRecord | None = None
    checkpoint: CheckpointPointer | None = None
    checkpoint_seconds: float | None = Field(
        default=None, description="How long the training stood still for the newest checkpoint."
    )
    updated: Timestamp


class Scores(Lenient):
    """The scalars of a `Part`."""

    loss: float
    dice: float
    iou: float
    samples: int


class TerminationMessage(Lenient):
    """What a trainer leaves in its termination message: under 4 KiB, scalars only."""

    format_version: int = 1
    exit_code: int
    reason: str = Field(max_length=128)
    message: str = Field(max_length=2000)
    epoch: int = 0
    epochs: int = 0
    start_epoch: int = 0
    generation: int = 0
    last: EpochMetrics | None = None
    best: EpochMetrics | None = None
    checkpoint: CheckpointPointer | None = None
    best_weights: str | None = None
    best_sha256: str | None = None
    test: Scores | None = Field(
        default=None, description="Of the test part, where there is one, after success."
    )


class RunRecord(Lenient):
    """run.json: what a run is and how it stands, for readers when the TrainingJob is gone.

    Written by the trainer, atomically; `state` is Running until the trainer ends.
    """

    format_version: int = 1
    namespace: str
    job: str
    uid: str
    generation: int
    attempt: int
    start: int
    state: Literal["Running", "Interrupted", "Succeeded", "Failed"]
    reason: str | None = None
    message: str | None = None
    config: dict[str, Any] = Field(description="The `TrainerConfig` last followed.")
    class_names: list[str] = Field(default_factory=list)
    epoch: int = 0
    metrics_file: str = Field(description="The newest metrics.jsonl, relative to the workspace.")
    best: EpochMetrics | None = None
    best_weights: WeightsFile | None = None
    model: str | None = Field(
        default=None, description="Folder that smp.from_pretrained opens, once finished."
    )
    model_weights: WeightsFile | None = None
    fingerprint: str | None = Field(default=None, description="Of the data set's files.")
    test: Part | None = Field(
        default=None, description="The test part with the best weights, evaluated once at the end."
    )
    export: dict[str, Any] = Field(
        default_factory=dict, description="What was exported, and how it was checked."
    )
    timings: dict[str, float] = Field(
        default_factory=dict, description="Seconds from the start of the process to each milestone."
    )
    notes: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    started: Timestamp
    updated: Timestamp
