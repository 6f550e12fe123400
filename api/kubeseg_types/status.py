"""`status` of a TrainingJob: small; last and best values and pointers, no history."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from kubeseg_types.base import Lenient, Timestamp


class Phase(StrEnum):
    """A summary for people; programs read the conditions."""

    PENDING = "Pending"
    CHECKING = "Checking"
    QUEUED = "Queued"
    BLOCKED = "Blocked"
    STARTING = "Starting"
    RUNNING = "Running"
    RETRYING = "Retrying"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    #: Not finished, and being deleted together with its run.
    DELETING = "Deleting"


class ConditionType(StrEnum):
    """Conditions, all set from the first visit on."""

    RUNNING = "Running"
    BLOCKED = "Blocked"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


class Condition(Lenient):
    """As everywhere in Kubernetes."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=1024)
    message: str = Field(max_length=32768)
    last_transition_time: Timestamp
    observed_generation: int | None = None


class EpochMetrics(Lenient):
    """Mean metrics of one epoch (0 to 1; losses from 0)."""

    epoch: int
    train_loss: float | None = None
    train_dice: float | None = None
    train_iou: float | None = None
    val_loss: float | None = None
    val_dice: float | None = None
    val_iou: float | None = None


class Metrics(Lenient):
    """The last epoch's metrics, and those of the epoch with the best validation IoU."""

    last: EpochMetrics | None = None
    best: EpochMetrics | None = None


class CheckpointPointer(Lenient):
    """The newest resumable checkpoint."""

    epoch: int
    step: int = 0
    time: Timestamp | None = None


class JobProgress(Lenient):
    """Where the training stands."""

    epoch: int = Field(default=0, description="Epochs finished.")
    epochs: int = Field(default=0, description="Epochs wanted.")
    step: int = Field(default=0, description="Steps done in the current epoch.")
    steps_per_epoch: int = 0
    eta_seconds: int | None = None
    samples_per_second: float | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    checkpoint: CheckpointPointer | None = None
    trainer_generation: int | None = Field(
        default=None, description="Generation of the spec that the trainer follows."
    )
    updated: Timestamp | None = None


class Attempt(Lenient):
    """One attempt: one child Job."""

    number: int
    job_name: str = Field(max_length=63)
    uid: str | None = Field(default=None, max_length=64, description="UID of the child Job.")
    reserved_time: Timestamp | None = None
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    outcome: str | None = Field(default=None, max_length=64)
    reason: str | None = Field(default=None, max_length=128)
    message: str | None = Field(default=None, max_length=4096)
    exit_code: int | None = None
    start_epoch: int | None = Field(default=None, description="Epochs finished as it began.")
    epoch: int | None = Field(default=None, description="Epochs finished as it ended.")
    node: str | None = Field(
        default=None, max_length=253, description="Where it ran; several nodes with commas."
    )
    queued_time: Timestamp | None = Field(
        default=None, description="Since when it waits in its queue; not set: it doesn't."
    )
    queued_seconds: int | None = Field(
        default=None, description="Time that it waited in its queue after it had begun."
    )
    preemptions: int | None = Field(
        default=None, description="How often its queue has taken its place away."
    )
    gpus: int | None = Field(default=None, description="GPUs of all its workers.")
    seconds: int | None = Field(default=None, description="From its trainer's start to its end.")
    lost_seconds: int | None = Field(
        default=None, description="Of these, after its newest checkpoint: to be done again."
    )
    gpu_hours: float | None = None
    lost_gpu_hours: float | None = None


class Totals(Lenient):
    """What all attempts have cost, those that are no longer listed included."""

    attempts: int = Field(default=0, description="Attempts that have ended.")
    seconds: int = 0
    lost_seconds: int = 0
    gpu_hours: float = 0.0
    lost_gpu_hours: float = 0.0


class AtRisk(Lenient):
    """What would be done again if the trainer were killed now."""

    since: Timestamp = Field(description="Time of the newest checkpoint, or the attempt's start.")
    epochs: int = Field(default=0, description="Epochs finished since then.")
    steps: int = Field(default=0, description="Steps done since then, those of epochs included.")


class Batch(Lenient):
    """How attempts compute a batch since one was killed for memory: smaller parts, more of them.

    `training.batchSize`, and with it the result, stays as it is.
    """

    accumulate: int = Field(description="Parts of a batch, in place of training.accumulate.")
    images_at_once: int = Field(description="Images in the largest part, on one GPU or worker.")
    after_attempt: int = Field(description="The attempt that was killed last.")


class CheckOutcome(StrEnum):
    """How the check before the first attempt ended."""

    PASSED = "Passed"
    #: The job fails with it.
    FAILED = "Failed"
    #: It could not be made; the job goes on without it.
    SKIPPED = "Skipped"
    #: It is made again.
    INTERRUPTED = "Interrupted"


class Preflight(Lenient):
    """The check before the first attempt of a job that asks for GPUs."""

    number: int = Field(description="Of the newest check Job, from 1.")
    job_name: str = Field(max_length=63)
    uid: str | None = Field(default=None, max_length=64, description="UID of the check Job.")
    reserved_time: Timestamp | None = None
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    outcome: CheckOutcome | None = None
    reason: str | None = Field(
        default=None, max_length=128, description="Why the check, or the one before it, ended."
    )
    message: str | None = Field(default=None, max_length=4096)
    node: str | None = Field(default=None, max_length=253)
    failures: int = Field(default=0, description="Checks that broke, whatever the data.")
    interruptions: int = 0


class CleanupOutcome(StrEnum):
    """What became of a run whose TrainingJob is being deleted with it."""

    REMOVED = "Removed"
    #: It stays in the workspace; the message says why, and where.
    LEFT = "Left"


class Cleanup(Lenient):
    """The removal of the run's folder (`artifacts.onDelete: Delete`) while the job is deleted."""

    number: int = Field(description="Of the newest clean-up Job, from 1; 0: none was made.")
    job_name: str | None = Field(default=None, max_length=63)
    uid: str | None = Field(default=None, max_length=64, description="UID of the clean-up Job.")
    reserved_time: Timestamp | None = None
    outcome: CleanupOutcome | None = None
    message: str | None = Field(default=None, max_length=4096)


class Retry(Lenient):
    """Failures since the last progress."""

    failures: int = 0
    progress_epoch: int = Field(default=0, description="Epoch reached when they were counted.")
    not_before: Timestamp | None = Field(default=None, description="When the next attempt starts.")


class RunPointer(Lenient):
    """Where the run lies in the workspace, and its best model."""

    path: str = Field(max_length=512)
    best_epoch: int | None = None
    best_weights: str | None = Field(default=None, max_length=1024)
    best_sha256: str | None = Field(default=None, max_length=64)


class Finished(Lenient):
    """What was in force at the finish: more `epochs` than this reopen a succeeded job."""

    epochs: int
    generation: int


class Summary(Lenient):
    """Texts for kubectl's columns."""

    epoch: str | None = Field(default=None, max_length=32)
    val_iou: str | None = Field(default=None, max_length=32)
    best: str | None = Field(default=None, max_length=32)
    eta: str | None = Field(default=None, max_length=32)
    workers: str | None = Field(
        default=None, max_length=32, description="How many of several workers run."
    )
    why: str | None = Field(default=None, max_length=1024)


class TrainingJobStatus(Lenient):
    """What was observed. Written by the operator alone."""

    observed_generation: int | None = None
    phase: Phase | None = None
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    start_time: Timestamp | None = None
    completion_time: Timestamp | None = None
    attempts: list[Attempt] = Field(
        default_factory=list,
        max_length=10,
        description="The last attempts, the newest at the end.",
    )
    preflight: Preflight | None = None
    totals: Totals | None = None
    retry: Retry | None = None
    batch: Batch | None = None
    progress: JobProgress | None = None
    at_risk: AtRisk | None = None
    metrics: Metrics | None = None
    run: RunPointer | None = None
    finished: Finished | None = None
    cleanup: Cleanup | None = None
    summary: Summary | None = None
