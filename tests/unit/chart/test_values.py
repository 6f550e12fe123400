"""values.yaml, its comments and its schema agree; wrong values are refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.chart.conftest import CHART, Helm

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        found: dict[str, Any] = SCHEMA["definitions"][node["$ref"].rsplit("/", 1)[1]]
        return found
    return node


def is_closed(node: dict[str, Any]) -> bool:
    """An object with fixed keys, each of which the templates read."""
    return node.get("type") == "object" and "required" in node


def schema_keys(node: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, child in resolved(node)["properties"].items():
        if (path, key) == ("", "global"):
            continue
        yield f"{path}{key}"
        if is_closed(resolved(child)):
            yield from schema_keys(child, f"{path}{key}.")


def value_keys(values: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{path}{key}"
        child = resolved(resolved(node)["properties"].get(key, {}))
        if is_closed(child):
            yield from value_keys(value, child, f"{path}{key}.")


def objects(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for key, child in node.items():
            yield from objects(child, f"{path}/{key}")


def test_values_and_schema_name_the_same_keys() -> None:
    assert sorted(value_keys(VALUES, SCHEMA)) == sorted(schema_keys(SCHEMA))


def test_every_object_of_the_schema_says_what_else_may_be_in_it() -> None:
    # Parts that are Kubernetes' own, or a TrainingJob's spec: checked where they are used.
    free = ("global", "studyTemplate", "valueFrom", "Affinity")
    for path, node in objects(SCHEMA, ""):
        if not path.endswith(free):
            assert node.get("additionalProperties", True) is not True, path
        if node.get("additionalProperties") is False and is_closed(node):
            assert set(node["required"]) <= set(node["properties"]), path


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    groups = {"crds", "operator", "api", "trainer", "workspace", "kueue", "rbac"}
    groups |= {"monitoring", "image", "service", "ingress", "anonymous", "podMonitors", "dashboard"}
    groups |= {"requests", "limits"}  # explained at `resources`
    for number, line in enumerate(lines):
        key = line.strip().split(":")[0]
        if not line.strip() or line.strip().startswith("#") or key in groups:
            continue
        above = lines[number - 1].strip()
        assert above.startswith("#"), f"values.yaml line {number + 1}: {key}"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("operator.replica=2", ["/operator", "'replica' not allowed"]),
        ("operator.replicas=0", ["/operator/replicas", "want 1"]),
        ("aip.replicas=2", ["'aip' not allowed"]),
        ("api.replicas=two", ["/api/replicas", "got string, want integer"]),
        ("api.replicas=0", ["/api/replicas", "want 1"]),
        ("api.service.type=Nodeport", ["/api/service/type", "'NodePort'"]),
        ("api.service.nodePort=70000", ["/api/service/nodePort", "65,535"]),
        ("api.maxUploadBytes=10Gi", ["/api/maxUploadBytes", "want integer"]),
        ("api.anonymous.role=admin", ["/api/anonymous/role", "'viewer', 'user'"]),
        ("api.service=null", ["/api", "missing property 'service'"]),
        ("operator.namespaces=team-a", ["/operator/namespaces", "want array"]),
        ("operator.namespaces={Team_A}", ["/operator/namespaces/0", "does not match"]),
        ("operator.image.digest=latest", ["/operator/image/digest", "does not match"]),
        ("trainer.image.tag=15", ["/trainer/image/tag", "want string"]),
        ("workspace.size=lots", ["/workspace/size", "does not match"]),
        ("workspace.accessModes={RWX}", ["/workspace/accessModes/0", "'ReadWriteMany'"]),
        ("workspace.accessModes={}", ["/workspace/accessModes"]),
        ("commonLabels.a=1", ["/commonLabels/a", "want string"]),
        ("api.ingress.enabled=true", ["api.ingress.host must name the host"]),
        ("api.anonymous.enabled=true,rbac.userRoles=false", ["needs the roles of rbac.userRoles"]),
    ],
)
def test_a_wrong_value_is_refused(helm: Helm, assignment: str, words: list[str]) -> None:
    done = helm("template", "kubeseg", str(CHART), "--set", assignment)
    assert done.returncode != 0, assignment
    for word in words:
        assert word in done.stderr
