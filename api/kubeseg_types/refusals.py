"""What the schema lets pass but can't be done: refused with a sentence, never ignored.

Each entry goes, as a CEL rule, into the CRD (the API server refuses), and is checked again by
`refusals` for configurations that reach a trainer without an API server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubeseg_types.spec import TrainingJobSpec


@dataclass(frozen=True)
class Refusal:
    """One thing that must not be asked for."""

    field: str
    #: CEL over `self`, the spec: true where the spec is fine.
    rule: str
    message: str
    allowed: Callable[[TrainingJobSpec], bool]


REFUSALS: tuple[Refusal, ...] = (
    # The trainer says the same of processes that nobody has told the operator of.
    Refusal(
        "spec.training.batchSize",
        "self.training.batchSize >= "
        "self.workers * (self.resources.gpus > 1 ? self.resources.gpus : 1)",
        "must be at least workers x resources.gpus: each GPU (without GPUs: each worker) needs a "
        "part of every batch",
        lambda s: s.training.batch_size >= s.workers * max(1, s.resources.gpus),
    ),
    Refusal(
        "spec.training.optimizer.nesterov",
        "!self.training.optimizer.nesterov || self.training.optimizer.name == 'SGD'",
        "must be left out unless the optimizer is SGD (name: SGD): it is SGD's",
        lambda s: not s.training.optimizer.nesterov or s.training.optimizer.name == "SGD",
    ),
    Refusal(
        "spec.training.optimizer.momentum",
        "!self.training.optimizer.nesterov || self.training.optimizer.momentum > 0.0",
        "must be above 0 with nesterov, which is a kind of momentum",
        lambda s: not s.training.optimizer.nesterov or s.training.optimizer.momentum > 0,
    ),
)


def refusals(spec: TrainingJobSpec) -> list[str]:
    """Sentences on what `spec` asks for in vain; empty where this version does all of it."""
    return [f"{r.field}: {r.message}" for r in REFUSALS if not r.allowed(spec)]
