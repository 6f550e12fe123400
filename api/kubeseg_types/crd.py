"""The CRD, generated from the models: `kubeseg-crd [--check] FILE…`.

pydantic's JSON schema becomes a structural schema as the API server wants it: references are
inlined, `anyOf` with null becomes optional, exclusive bounds become the draft-4 form, fractional
maxima become rules, defaults of nested models are filled in to the last field. Free-form objects
are an error: what is nested without an end no reader of lists could bear.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from kubeseg_types import names, rules
from kubeseg_types.base import RULES
from kubeseg_types.spec import EnvSource, EnvVar, PodResourceClaim, TrainingJobSpec
from kubeseg_types.status import TrainingJobStatus

Schema = dict[str, Any]

_KEPT = (
    "description",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "format",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    RULES,
)
_MODEL_RULES: dict[str, tuple[rules.Rule, ...]] = {
    EnvVar.__name__: rules.ENV_RULES,
    EnvSource.__name__: rules.ENV_SOURCE_RULES,
    PodResourceClaim.__name__: rules.RESOURCE_CLAIM_RULES,
}


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(document, document.get("$defs", {}))


def _convert(node: Schema, defs: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        target = _convert(defs[name], defs)
        if name in _MODEL_RULES:
            target[RULES] = [r.to_dict() for r in _MODEL_RULES[name]]
        target |= {k: node[k] for k in ("description",) if k in node}
        if "default" in node:
            target["default"] = node["default"]
        return target
    if "anyOf" in node:
        return _convert_union(node, defs)
    out: Schema = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        out["enum"] = [node["const"]]
    if "default" in node and node["default"] is not None:
        out["default"] = node["default"]
    _convert_bounds(node, out)
    kind = node.get("type") or ("string" if "enum" in out else "object")
    out["type"] = kind
    if kind == "array":
        out["items"] = _convert(node["items"], defs)
    elif kind == "integer":
        out["format"] = "int64"
    elif kind == "object":
        _convert_object(node, defs, out)
    return out


def _convert_bounds(node: Schema, out: Schema) -> None:
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in node:
            out[bound.lower()] = node[f"exclusive{bound}"]
            out[f"exclusive{bound}"] = True
    if out.get("maximum", 0) % 1:
        # The API server would say "less than or equal to 0" of 0.9.
        most = out.pop("maximum")
        out[RULES] = [{"rule": f"self <= {most}", "message": f"must be at most {most}"}]


def _convert_union(node: Schema, defs: dict[str, Schema]) -> Schema:
    """Optional fields (anyOf with null), and unions of an enum with a pattern of strings."""
    branches = [b for b in node["anyOf"] if b.get("type") != "null"]
    rest = {k: v for k, v in node.items() if k != "anyOf" and not (k == "default" and v is None)}
    if len(branches) == 1:
        converted = _convert({**branches[0]}, defs)
        extra = {k: rest[k] for k in (*_KEPT, "default") if k in rest}
        return converted | extra
    options: list[str] = []
    for branch in branches:
        options += branch.get("enum", []) and ["|".join(branch["enum"])]
        options += [branch["pattern"].strip("^$")] if "pattern" in branch else []
    merged = {"type": "string", "pattern": f"^({'|'.join(options)})$", "maxLength": 16}
    return merged | {k: rest[k] for k in (*_KEPT, "default") if k in rest}


def _convert_object(node: Schema, defs: dict[str, Schema], out: Schema) -> None:
    if "properties" in node:
        out["properties"] = {k: _convert(v, defs) for k, v in node["properties"].items()}
        if node.get("required"):
            out["required"] = sorted(node["required"])
    elif isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _convert(node["additionalProperties"], defs)
    else:
        raise TypeError(f"a free-form object can't be bounded: write its fields out ({node})")


def _fill_defaults(schema: Schema) -> None:
    """Optional objects all of whose fields have defaults or are optional get the default {}.

    The API server then fills in the nested defaults itself.
    """
    for name, child in schema.get("properties", {}).items():
        _fill_defaults(child)
        if child["type"] != "object" or "properties" not in child or child.get("required"):
            continue
        if name not in schema.get("required", []) and child.pop("x-default-factory", False):
            child["default"] = {}
    if "items" in schema:
        _fill_defaults(schema["items"])


def _mark_factories(model: type[BaseModel], schema: Schema) -> None:
    """Mark the properties whose model has a default_factory: JSON schema does not show these."""
    for name, info in model.model_fields.items():
        child = schema["properties"][info.alias or name]
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            _mark_factories(annotation, child)
            if info.default_factory is not None:
                child["x-default-factory"] = True
        elif info.default_factory is not None and child["type"] == "array":
            value = info.get_default(call_default_factory=True)
            if value:
                child["default"] = [v.model_dump(mode="json", by_alias=True) for v in value]


def _strip_titles(schema: Schema) -> Schema:
    schema.pop("x-default-factory", None)
    for child in schema.get("properties", {}).values():
        _strip_titles(child)
    return schema


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of TrainingJob."""
    spec = structural(TrainingJobSpec)
    _mark_factories(TrainingJobSpec, spec)
    _fill_defaults(spec)
    spec = _strip_titles(spec)
    spec[RULES] = [r.to_dict() for r in rules.spec_rules()]
    root: Schema = {
        "type": "object",
        "description": "Trains an image-segmentation network.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # For the rule on the name to point at it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": spec,
            "status": structural(TrainingJobStatus),
        },
        RULES: [r.to_dict() for r in rules.ROOT_RULES],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT],
                "categories": ["kubeseg"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def _columns() -> list[dict[str, Any]]:
    def column(name: str, path: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
        return entry | ({"priority": priority} if priority else {})

    return [
        column("Phase", ".status.phase"),
        column("Epoch", ".status.summary.epoch"),
        column("Val-IoU", ".status.summary.valIou"),
        column("Best", ".status.summary.best"),
        column("ETA", ".status.summary.eta"),
        # kubectl shows a date as its age: that of what would be lost if it were killed now.
        column("Unsaved", ".status.atRisk.since", "date"),
        column("GPUs", ".spec.resources.gpus", "integer"),
        column("Age", ".metadata.creationTimestamp", "date"),
        column("Attempt", ".status.attempts[-1:].number", "integer", priority=1),
        column("GPU-h", ".status.totals.gpuHours", "number", priority=1),
        column("Lost", ".status.totals.lostGpuHours", "number", priority=1),
        column("Model", ".spec.model.architecture", priority=1),
        column("Encoder", ".spec.model.encoder", priority=1),
        column("Dataset", ".spec.dataset.name", priority=1),
        column("Workers", ".status.summary.workers", priority=1),
        column("Queue", ".spec.queueName", priority=1),
        column("Why", ".status.summary.why", priority=1),
    ]


HEADER = "# Generated from api/kubeseg_types by `make generate`: change it there.\n"


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out each time: YAML's aliases would be hard to read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the name is PyYAML's
        return True


def render() -> str:
    """The committed file's text."""
    return HEADER + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=100)


def main() -> None:
    """Write the CRD to each FILE, or with --check say which of them has drifted (exit code 1)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    text = render()
    for file in arguments.files:
        if not arguments.check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"{file} does not match api/kubeseg_types: run `make generate`")


if __name__ == "__main__":
    main()
