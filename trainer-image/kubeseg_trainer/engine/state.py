"""Where a training stands, in the form that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubeseg_trainer.engine.task import Sums
from kubeseg_types.trainer import EpochRecord


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
    #: All finished epochs.
    history: list[EpochRecord] = field(default_factory=list)
    #: The newest generation of the configuration seen.
    generation: int = 0

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)
