"""The generated CRD: it matches what is committed, and is bounded throughout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeseg_types import crd, rules
from kubeseg_types.base import Contract
from kubeseg_types.refusals import REFUSALS

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"

# What the design names, as paths below spec.
NAMED = """
suspend stop workers dataset.name dataset.testSize dataset.ignoreIndex dataset.classes
dataset.splits model.architecture model.encoder model.encoderWeights training.epochs
training.learningRate training.batchSize training.imageSize training.optimizer training.scheduler
training.loss training.augmentation training.precision training.compile training.seed
training.earlyStopping training.accumulate training.clip training.stallTimeout
checkpoint.everyEpochs checkpoint.everySeconds checkpoint.keepLast checkpoint.keepBest
checkpoint.keepEpochs artifacts.onDelete export initFrom image imagePullPolicy imagePullSecrets env
resources.gpus resources.gpuResource resources.cpu resources.memory resources.sharedMemory
nodeSelector tolerations affinity schedulerName priorityClassName queueName runtimeClassName
resourceClaims
podLabels podAnnotations maxRetries activeDeadlineSeconds ttlSecondsAfterFinished preflight
workspace.claimName
""".split()


@pytest.fixture(scope="module")
def version() -> dict[str, Any]:
    found: dict[str, Any] = crd.crd()["spec"]["versions"][0]
    return found


@pytest.fixture(scope="module")
def spec(version: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def walk(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}.*")


def test_committed_file_has_not_drifted() -> None:
    assert COMMITTED.read_text() == crd.render(), "run `make generate`"


def test_check_fails_where_the_file_drifted(tmp_path: Path) -> None:
    drifted = tmp_path / "crd.yaml"
    drifted.write_text(crd.render() + "# by hand\n")
    done = subprocess.run(
        [sys.executable, "-m", "kubeseg_types.crd", "--check", str(drifted)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make generate" in done.stderr
    assert "# by hand" in drifted.read_text(), "--check must not write"


@pytest.mark.parametrize("path", NAMED)
def test_every_field_the_design_names_is_there(spec: dict[str, Any], path: str) -> None:
    node = spec
    for part in path.split("."):
        node = node["properties"][part]


def test_everything_is_bounded(spec: dict[str, Any]) -> None:
    unbounded = []
    for path, node in walk(spec):
        kind = node["type"]
        bounded = {
            "string": "maxLength" in node or "enum" in node,
            "integer": "minimum" in node and ("maximum" in node or path.endswith("Seconds")),
            "number": "minimum" in node
            and ("maximum" in node or "x-kubernetes-validations" in node),
            "array": "maxItems" in node,
            "object": "properties" in node or "maxProperties" in node,
            "boolean": True,
        }[kind]
        if not bounded:
            unbounded.append(f"{path} ({kind})")
    assert not unbounded


def test_what_could_be_nested_without_an_end_is_not_written() -> None:
    class Loose(Contract):
        anything: dict[str, Any]

    with pytest.raises(TypeError, match="free-form"):
        crd.structural(Loose)


def test_what_has_defaults_is_filled_in_to_the_last_field(spec: dict[str, Any]) -> None:
    def defaults(node: dict[str, Any]) -> Any:
        if node.get("default") != {}:
            return node.get("default")
        return {
            name: value
            for name, child in node["properties"].items()
            if (value := defaults(child)) is not None
        }

    training = {
        name: value
        for name, child in spec["properties"]["training"]["properties"].items()
        if (value := defaults(child)) is not None
    }
    assert training["optimizer"] == {
        "name": "AdamW", "weightDecay": 0.01, "momentum": 0.9, "nesterov": False,
    }  # fmt: skip
    assert [term["name"] for term in training["loss"]["terms"]] == ["CrossEntropy", "Dice"]
    assert training["learningRate"] == 0.001
    assert defaults(spec["properties"]["resources"])["gpuResource"] == "nvidia.com/gpu"
    assert "encoderWeights" not in defaults(spec["properties"]["model"])


def test_a_fractional_bound_is_a_rule_since_the_api_server_would_say_0(
    spec: dict[str, Any],
) -> None:
    size = spec["properties"]["dataset"]["properties"]["testSize"]
    assert "maximum" not in size
    assert size["x-kubernetes-validations"] == [
        {"rule": "self <= 0.9", "message": "must be at most 0.9"}
    ]


def test_every_rule_speaks_a_sentence_that_begins_with_must(spec: dict[str, Any]) -> None:
    every = [*rules.ROOT_RULES, *rules.spec_rules(), *rules.ENV_RULES, *rules.ENV_SOURCE_RULES]
    every += rules.RESOURCE_CLAIM_RULES
    assert len(every) > 25
    for rule in every:
        assert rule.message.startswith("must"), rule
        assert len(rule.message) > 15
    for path, node in walk(spec):
        for entry in node.get("x-kubernetes-validations", []):
            assert entry["message"].startswith("must"), path


def test_rules_point_at_fields_that_exist(spec: dict[str, Any]) -> None:
    for rule in rules.spec_rules():
        node = spec
        assert rule.field_path
        for part in rule.field_path.strip(".").split("."):
            node = node["properties"][part]


def test_refused_fields_stay_in_the_format(spec: dict[str, Any]) -> None:
    for refusal in REFUSALS:
        node = spec
        for part in refusal.field.split(".")[1:]:
            node = node["properties"][part]


def test_columns_show_phase_epoch_metric_and_age(version: dict[str, Any]) -> None:
    names = [column["name"] for column in version["additionalPrinterColumns"]]
    assert names[:4] == ["Phase", "Epoch", "Val-IoU", "Best"]
    assert "Age" in names
    assert version["subresources"] == {"status": {}}
    assert crd.crd()["spec"]["names"]["shortNames"] == ["tj"]


def test_status_conditions_are_a_list_map(version: dict[str, Any]) -> None:
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    conditions = status["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
