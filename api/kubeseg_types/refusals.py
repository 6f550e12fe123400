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
    Refusal(
        "spec.preflight",
        "self.preflight == 'Never'",
        "must be Never: this version checks the data set as the trainer starts",
        lambda s: s.preflight == "Never",
    ),
    Refusal(
        "spec.artifacts.onDelete",
        "self.artifacts.onDelete == 'Retain'",
        "must be Retain: this version leaves a run's folder to you (runs/<job>/<uid>)",
        lambda s: s.artifacts.on_delete == "Retain",
    ),
    Refusal(
        "spec.initFrom",
        "!has(self.initFrom)",
        "must not be set: this version begins from scratch",
        lambda s: s.init_from is None,
    ),
    Refusal(
        "spec.export.onnx",
        "!self.export.onnx",
        "must be false: this version exports safetensors and a folder for smp.from_pretrained",
        lambda s: not s.export.onnx,
    ),
    Refusal(
        "spec.model.encoderWeights",
        "!has(self.model.encoderWeights)",
        "must not be set: this version begins with random weights",
        lambda s: s.model.encoder_weights is None,
    ),
    Refusal(
        "spec.dataset.splits.test",
        "!has(self.dataset.splits) || !has(self.dataset.splits.test)",
        "must not be set: this version evaluates on the validation part only",
        lambda s: s.dataset.splits is None or s.dataset.splits.test is None,
    ),
    Refusal(
        "spec.training.augmentation.serialized",
        "!has(self.training.augmentation.serialized)",
        "must not be set: this version knows presets only (training.augmentation.preset)",
        lambda s: s.training.augmentation.serialized is None,
    ),
    Refusal(
        "spec.training.loss.classWeights",
        "self.training.loss.classWeights == 'None'",
        "must be None: this version weighs all classes alike",
        lambda s: s.training.loss.class_weights == "None",
    ),
    Refusal(
        "spec.training.compile",
        "!self.training.compile",
        "must be false: this version runs eagerly",
        lambda s: not s.training.compile,
    ),
)


def refusals(spec: TrainingJobSpec) -> list[str]:
    """Sentences on what `spec` asks for in vain; empty where this version does all of it."""
    return [f"{r.field}: {r.message}" for r in REFUSALS if not r.allowed(spec)]
