"""How a network is trained: the part of the spec that the training loop reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kubeseg_types.base import Contract, Duration

#: Most parts that a batch is computed in.
MAX_ACCUMULATE = 1024
#: The shortest `stallTimeout`.
LEAST_STALL_TIMEOUT = "10s"


class Optimizer(Contract):
    """The optimizer."""

    name: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of SGD.")
    nesterov: bool = Field(default=False, description="Of SGD: Nesterov's momentum.")


class Scheduler(Contract):
    """How the learning rate goes on from `learningRate`, over all epochs."""

    name: Literal["Constant", "Cosine", "Polynomial"] = "Cosine"
    warmup_epochs: float = Field(
        default=0,
        ge=0,
        le=1000,
        description="Epochs over which the rate climbs to learningRate; at most all of them.",
    )


class LossTerm(Contract):
    """One term of the loss."""

    name: Literal["CrossEntropy", "Dice", "Focal", "Jaccard", "Lovasz", "Tversky"]
    weight: float = Field(default=1, gt=0, le=1000)


class Loss(Contract):
    """A weighted sum of terms."""

    terms: list[LossTerm] = Field(
        default_factory=lambda: [LossTerm(name="CrossEntropy"), LossTerm(name="Dice")],
        min_length=1,
        max_length=6,
    )
    class_weights: Literal["None", "Auto"] = Field(
        default="None", description="Auto weighs classes by how rare they are."
    )


class Augmentation(Contract):
    """What is done to a training image at random: a preset."""

    preset: Literal["None", "Light", "Medium", "Strong"] = Field(
        default="Light",
        description="Light flips and shifts; Medium adds brightness, contrast and scale; Strong "
        "adds blur, noise and distortion.",
    )
    serialized: str | None = Field(
        default=None,
        max_length=32768,
        description="albumentations' serialized form (JSON), instead of a preset.",
    )


class EarlyStopping(Contract):
    """Ends the training when the validation IoU no longer grows; not set: never."""

    patience: int = Field(ge=1, le=100_000, description="Epochs without a gain to wait for.")
    min_delta: float = Field(default=0, ge=0, le=1, description="The least gain that counts.")


class Ema(Contract):
    """An exponential moving average of the weights, which is what is validated and exported."""

    decay: float = Field(default=0.999, gt=0, lt=1, description="Share of the old average kept.")


class Training(Contract):
    """How the network is trained."""

    epochs: int = Field(ge=1, le=100_000, description="Passes over the training images.")
    learning_rate: float = Field(default=0.001, gt=0, le=1)
    batch_size: int = Field(
        default=8, ge=1, le=4096, description="Images a step, over all workers together."
    )
    image_size: int = Field(
        default=512,
        ge=32,
        le=4096,
        description="Side of the square that the network sees, in pixels.",
    )
    image_mode: Literal["Resize", "Crop"] = Field(
        default="Resize",
        description="Resize makes each image that square. Crop keeps the images' own size: a "
        "random square of it is trained on, and a window slides over it in validation.",
    )
    window_overlap: float = Field(
        default=0.25, ge=0, le=0.75, description="Of Crop: what two windows share of their side."
    )
    optimizer: Optimizer = Field(default_factory=Optimizer)
    scheduler: Scheduler = Field(default_factory=Scheduler)
    loss: Loss = Field(default_factory=Loss)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    precision: Literal["Auto", "Float32", "BFloat16", "Float16"] = Field(
        default="Auto",
        description="Of the forward pass. Auto takes BFloat16 or Float16 where the GPU gains from "
        "it, else Float32.",
    )
    compile: bool = Field(
        default=False, description="torch.compile; where it fails the run goes on without."
    )
    ema: Ema | None = None
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    deterministic: bool = Field(
        default=False,
        description="Only algorithms whose result is the same each time, on GPUs too, at a price.",
    )
    early_stopping: EarlyStopping | None = None
    accumulate: int = Field(
        default=1,
        ge=1,
        le=MAX_ACCUMULATE,
        description="Parts that a batch is computed in, to save memory; at most batchSize.",
    )
    clip: float | None = Field(
        default=None, gt=0, le=1e6, description="Largest norm of the gradient."
    )
    stall_timeout: Duration = Field(
        default="30m",
        description="The attempt fails when no step ends for so long: at least 10s, and more "
        "than a start takes.",
    )


class CheckpointPolicy(Contract):
    """What is kept of a run, and when."""

    every_epochs: int = Field(
        default=1, ge=1, le=100_000, description="A resumable checkpoint every so many epochs."
    )
    every_seconds: int | None = Field(
        default=None, ge=10, le=86_400, description="And every so many seconds within an epoch."
    )
    keep_last: int = Field(default=2, ge=1, le=100, description="Resumable checkpoints kept.")
    keep_best: int = Field(default=1, ge=1, le=100, description="Best epochs' weights kept.")
    keep_epochs: bool = Field(
        default=False,
        description="Keep every epoch's weights, not only the best and the newest.",
    )
