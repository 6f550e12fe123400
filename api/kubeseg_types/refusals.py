"""What the format has but this version does not do: refused with a sentence, never ignored.

Each entry goes, as a CEL rule, into the CRD (the API server refuses), and is checked again by
`refusals` for configurations that reach a trainer without an API server. A later version that
does the thing deletes the entry, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubeseg_types.spec import TrainingJobSpec


@dataclass(frozen=True)
class Refusal:
    """One thing that must not be asked for yet."""

    field: str
    #: CEL over `self`, the spec: true where the spec is fine.
    rule: str
    message: str
    allowed: Callable[[TrainingJobSpec], bool]


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "spec.workers",
        "self.workers == 1",
        "must be 1: this version trains on one worker pod",
        lambda s: s.workers == 1,
    ),
    Refusal(
        "spec.resources.gpus",
        "self.resources.gpus <= 1",
        "must be at most 1: this version trains on one GPU",
        lambda s: s.resources.gpus <= 1,
    ),
    Refusal(
        "spec.queueName",
        "!has(self.queueName)",
        "must not be set: this version does not speak to Kueue",
        lambda s: s.queue_name is None,
    ),
)


def refusals(spec: TrainingJobSpec) -> list[str]:
    """Sentences on what `spec` asks for in vain; empty where this version does all of it."""
    return [f"{r.field}: {r.message}" for r in REFUSALS if not r.allowed(spec)]
