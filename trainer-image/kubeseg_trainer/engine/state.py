"""Where a training stands, and the form in which a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from kubeseg_trainer.engine.task import Sums
from kubeseg_types.trainer import EpochRecord

#: More than any run does; a larger number is none that was written here.
_MANY = 2**53


@dataclass
class State:
    """The position of a training; weights and optimizer are beside it.

    Best epoch, early stopping and learning rate are functions of it, and so is all randomness
    (functions of the seed and the position): none of them is state.
    """

    #: Sums of the training passes of the current epoch.
    sums: Sums
    #: Optimizer steps since the run began.
    step: int = 0
    #: Samples of the current epoch that are done; all of them: it is validation's turn.
    position: int = 0
    #: Seconds spent on the current epoch's steps so far.
    seconds: float = 0.0
    #: Learning rate of the last step.
    learning_rate: float = 0.0
    #: All finished epochs. The newest lacks its weights file until that is written.
    history: list[EpochRecord] = field(default_factory=list)
    #: The newest generation of the configuration seen.
    generation: int = 0

    def begin_epoch(self, record: EpochRecord, sums: Sums) -> None:
        """Begin the epoch after the one that `record` is of; `sums` are empty."""
        self.history.append(record)
        self.position, self.seconds = 0, 0.0
        self.sums = sums

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)


class StepperDocument(BaseModel):
    """What a start that goes on must do alike (`Stepper.identity`)."""

    precision: Literal["Float32", "BFloat16", "Float16"] | None
    accumulate: int = Field(ge=1, le=_MANY)
    #: Batch size and parts that were asked for.
    asked: list[int] = Field(min_length=2, max_length=2)


class StateDocument(BaseModel):
    """state.json of a checkpoint: `State`, and what training it belongs to."""

    model_config = ConfigDict(
        extra="allow", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    step: int = Field(ge=0, le=_MANY)
    position: int = Field(ge=0, le=_MANY)
    seconds: float = Field(ge=0)
    learning_rate: float
    generation: int = Field(ge=0, le=_MANY)
    history: list[EpochRecord]
    class_names: list[str]
    fingerprint: str
    defining: dict[str, Any]
    torch: str
    threads: int
    stepper: StepperDocument

    @model_validator(mode="after")
    def _epochs_in_order(self) -> Self:
        if [record.epoch for record in self.history] != list(range(1, len(self.history) + 1)):
            raise ValueError("the epochs of its history are not 1, 2, 3, …")
        return self


def document_of(
    state: State, history: Sequence[EpochRecord], identity: dict[str, Any]
) -> dict[str, Any]:
    """`state`, as JSON, with this `history` and the `identity` of the training."""
    return {
        "step": state.step,
        "position": state.position,
        "seconds": state.seconds,
        "learningRate": state.learning_rate,
        "generation": state.generation,
        "history": [record.to_dict() for record in history],
        **identity,
    }
