"""Parameters and replies of the Study contract, named as its callers know them."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class StudyQuery(BaseModel):
    """What a training is asked for. Types are checked here (422), values later (400)."""

    User: str = Field(description="Whose data set it is.")
    FileName: str = Field(description="The data set, as stored for that user.")
    Epochs: int = Field(description="Passes over the training images: 1 to 100000.")
    LR: float = Field(description="Learning rate: above 0, at most 1.")
    ImgSize: int = Field(description="Side in pixels that images are resized to: 112 to 1048.")
    BatchSize: int = Field(description="Images a step: 1 to 100.")
    Model: str = Field(description="An architecture on offer (GET /modeles).")
    TestSize: float = Field(description="Share held back for validation: above 0, at most 0.9.")


class Answer(BaseModel):
    """What every reply carries."""

    AnswerDate: str = Field(
        default_factory=_now, description="Time of the reply, ISO 8601, in UTC."
    )


class ModelList(Answer):
    """The architectures on offer."""

    Description: list[str] = Field(description="Names of the architectures on offer.")


class Told(Answer):
    """What was done."""

    Description: str = Field(description="What was done, in words.")


class Started(Answer):
    """A training that was started."""

    ModelName: str = Field(description="The id of the training, `<User>-<n>`.")


class Curves(Answer):
    """One number for each finished epoch, the first epoch's first."""

    train_loss: list[float | None] = Field(description="Mean loss over the training images.")
    train_dice: list[float | None] = Field(
        description="Mean Dice over the training images, 0 to 1."
    )
    val_loss: list[float | None] = Field(description="Mean loss over the validation images.")
    val_dice: list[float | None] = Field(
        description="Mean Dice over the validation images, 0 to 1."
    )


class Checkpoint(Answer):
    """Weights that are there."""

    FilePath: str = Field(
        description="The weights, below the workspace: `GET /v1/files/{FilePath}` serves them, "
        "with `?format=pt` as a plain state_dict."
    )


class LastCheckpoint(Answer):
    """The newest weights of a training that was deleted."""

    FilePath: str | None = Field(
        description="The newest epoch's weights, below the workspace; null before the first "
        "epoch was finished."
    )


class ErrorReply(BaseModel):
    """An error."""

    detail: str = Field(description="What is wrong.")
