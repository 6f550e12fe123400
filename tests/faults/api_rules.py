"""What the CRD does to a TrainingJob's spec in the model: defaults, bounds, what must not change.

The CRD is generated from the same classes; that both say the same is tested on the real API server.
"""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import ValidationError

from kubeseg_types.refusals import refusals
from kubeseg_types.rules import LIVE_TRAINING
from kubeseg_types.spec import TrainingJobSpec

Raw = dict[str, Any]
_FIXED = ("model", "dataset", "initFrom", "export", "workspace", "workers", "queueName")
#: A field that only a newer CRD knows: lets a spec through that the operator can't follow.
FROM_THE_FUTURE = "fromTheFuture"


class Refuse(Protocol):
    """Makes the error of a refusal."""

    def __call__(self, code: int, reason: str, message: str) -> Exception: ...


def admitted(spec: Raw, refuse: Refuse) -> Raw:
    """The spec with its defaults; 422 where the schema or a rule says no."""
    known = {key: value for key, value in spec.items() if key != FROM_THE_FUTURE}
    try:
        parsed = TrainingJobSpec.model_validate(known)
    except ValidationError as error:
        raise refuse(422, "Invalid", str(error)) from error
    sentences = refusals(parsed)
    if sentences:
        raise refuse(422, "Invalid", "; ".join(sentences))
    return parsed.to_dict() | {key: spec[key] for key in spec if key == FROM_THE_FUTURE}


def changed_job(old: Raw, new: Raw, refuse: Refuse) -> Raw:
    """The new spec of a Job; 422 where something changed that must not."""
    for name in ("template", "completionMode"):
        if old.get(name) != new.get(name):
            raise refuse(422, "Invalid", f"spec.{name}: field is immutable")
    if old.get("completions") != new.get("completions") and (
        new.get("completionMode") != "Indexed" or new.get("completions") != new.get("parallelism")
    ):
        words = "spec.completions: may change only together with parallelism, of an Indexed Job"
        raise refuse(422, "Invalid", words)
    return new


def changed_spec(old: Raw, new: Raw, refuse: Refuse) -> Raw:
    """The new spec with its defaults; 422 where something changed that must not."""
    wanted = admitted(new, refuse)
    for name in _FIXED:
        if old.get(name) != wanted.get(name):
            raise refuse(422, "Invalid", f"spec.{name}: must not change once the job exists")
    for name in set(old["training"]) | set(wanted["training"]):
        if name not in LIVE_TRAINING and old["training"].get(name) != wanted["training"].get(name):
            raise refuse(422, "Invalid", f"spec.training.{name}: must not change")
    return wanted
