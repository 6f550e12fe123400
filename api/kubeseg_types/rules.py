"""CEL rules of the CRD beyond the schema: unions, immutability, the job's name.

A rule on a field does not see it come or go, so what must not change is compared at the level of
the spec, optional fields with has().
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeseg_types.names import MAX_NAME_LENGTH
from kubeseg_types.refusals import REFUSALS
from kubeseg_types.training import Training


@dataclass(frozen=True)
class Rule:
    """One CEL rule; `field_path` is where the API server says the trouble is."""

    rule: str
    message: str
    field_path: str | None = None

    def to_dict(self) -> dict[str, str]:
        """As it stands under x-kubernetes-validations."""
        entry = {"rule": self.rule, "message": self.message}
        if self.field_path:
            entry["fieldPath"] = self.field_path
        return entry


#: Parts of `training` that may change while the job runs; all others define the training.
LIVE_TRAINING = frozenset({"epochs", "earlyStopping"})
_WAY_OUT = "must not change once the job exists: make a new TrainingJob with another name"

ROOT_RULES = (
    Rule(
        f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && "
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        f"must have a name of at most {MAX_NAME_LENGTH} characters that are lower-case letters, "
        "digits or '-', beginning and ending with a letter or digit",
        ".metadata.name",
    ),
)


def _same(path: str) -> str:
    """CEL: the field at `path` (dotted, below spec) is as it was, or as absent as it was."""
    return (
        f"has(self.{path}) == has(oldSelf.{path}) && "
        f"(!has(self.{path}) || self.{path} == oldSelf.{path})"
    )


def _immutable() -> list[Rule]:
    fields = ["model", "dataset", "initFrom", "export", "workspace", "workers", "queueName"]
    # What comes before the first attempt only.
    fields += ["preflight"]
    for name, info in Training.model_fields.items():
        alias = info.alias or name
        if alias not in LIVE_TRAINING:
            fields.append(f"training.{alias}")
    return [Rule(_same(field), _WAY_OUT, f".{field}") for field in fields]


def spec_rules() -> list[Rule]:
    """Rules at the level of `spec`."""
    refused = [Rule(r.rule, r.message, r.field.removeprefix("spec")) for r in REFUSALS]
    return [*refused, *_immutable()]


ENV_RULES = (
    Rule(
        "!(has(self.value) && has(self.valueFrom))",
        "must have value or valueFrom, not both",
    ),
)
RESOURCE_CLAIM_RULES = (
    Rule(
        "has(self.resourceClaimName) != has(self.resourceClaimTemplateName)",
        "must have exactly one of resourceClaimName and resourceClaimTemplateName",
    ),
)
ENV_SOURCE_RULES = (
    Rule(
        "has(self.secretKeyRef) != has(self.configMapKeyRef)",
        "must have exactly one of secretKeyRef and configMapKeyRef",
    ),
)
