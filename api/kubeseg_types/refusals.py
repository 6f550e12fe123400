"""What the schema lets pass but can't be done: refused with a sentence, never ignored.

Each entry goes, as a CEL rule, into the CRD (the API server refuses), and is checked again by
`refusals` for configurations that reach a trainer without an API server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kubeseg_types.base import duration_seconds, quantity_value
from kubeseg_types.spec import LEAST_CPU, LEAST_MEMORY, TrainingJobSpec
from kubeseg_types.training import LEAST_STALL_TIMEOUT, Augmentation


@dataclass(frozen=True)
class Refusal:
    """One thing that must not be asked for."""

    field: str
    #: CEL over `self`, the spec: true where the spec is fine.
    rule: str
    message: str
    allowed: Callable[[TrainingJobSpec], bool]


_PRESET = Augmentation().preset


def _all_differ(names: list[str]) -> bool:
    return len(set(names)) == len(names)


def _at_least(name: Literal["cpu", "memory"], least: str) -> Refusal:
    field = f"self.resources.{name}"
    return Refusal(
        f"spec.resources.{name}",
        f"!isQuantity({field}) || quantity({field}).compareTo(quantity('{least}')) >= 0",
        f"must be at least {least}: no trainer runs with less",
        lambda s: quantity_value(getattr(s.resources, name)) >= quantity_value(least),
    )


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
    _at_least("cpu", LEAST_CPU),
    _at_least("memory", LEAST_MEMORY),
    Refusal(
        "spec.resources.sharedMemory",
        # What is no quantity is refused by the field itself.
        "!isQuantity(self.resources.sharedMemory) || !isQuantity(self.resources.memory) || "
        "quantity(self.resources.sharedMemory).compareTo(quantity(self.resources.memory)) <= 0",
        "must be at most resources.memory, of which it is a part (1Gi where it is not given): "
        "lower it, or raise the memory",
        lambda s: quantity_value(s.resources.shared_memory) <= quantity_value(s.resources.memory),
    ),
    Refusal(
        "spec.training.accumulate",
        "self.training.accumulate <= self.training.batchSize",
        "must be at most training.batchSize: it is the number of parts that a batch is computed in",
        lambda s: s.training.accumulate <= s.training.batch_size,
    ),
    Refusal(
        "spec.dataset.classes",
        "!has(self.dataset.classes) || self.dataset.classes.all(c, "
        "self.dataset.classes.exists_one(other, other.name == c.name))",
        "must have a name of its own for each class: metrics of two with one name can't be told "
        "apart",
        lambda s: _all_differ([c.name for c in s.dataset.classes or []]),
    ),
    # The API server fills in the default: that one can't be told from none.
    Refusal(
        "spec.training.augmentation.preset",
        "!has(self.training.augmentation.serialized) || "
        f"self.training.augmentation.preset == '{_PRESET}'",
        "must be left out where augmentation.serialized is given, which takes its place",
        lambda s: (
            s.training.augmentation.serialized is None or s.training.augmentation.preset == _PRESET
        ),
    ),
    Refusal(
        "spec.training.stallTimeout",
        f"duration(self.training.stallTimeout) >= duration('{LEAST_STALL_TIMEOUT}')",
        f"must be at least {LEAST_STALL_TIMEOUT}: a start takes longer, and would count as a stall",
        lambda s: (
            duration_seconds(s.training.stall_timeout) >= duration_seconds(LEAST_STALL_TIMEOUT)
        ),
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
