"""The contract's models: what they refuse, and the small functions beside them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kubeseg_types import workspace
from kubeseg_types.base import duration_seconds, quantity_value
from kubeseg_types.exit_codes import TABLE, ExitCode, Outcome, classify
from kubeseg_types.names import MAX_CONFIG_BYTES
from kubeseg_types.refusals import REFUSALS, refusals
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.trainer import TrainerConfig, trainer_config

SMALLEST: dict[str, Any] = {"dataset": {"name": "shapes"}, "training": {"epochs": 3}}


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in extra.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if nested else value
    return out


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"learningRate": 0}}, "training.learningRate"),
        ({"training": {"learningRate": 3}}, "training.learningRate"),
        ({"training": {"learningRate": float("nan")}}, "training.learningRate"),
        ({"training": {"batchSize": 0}}, "training.batchSize"),
        ({"training": {"imageSize": 31}}, "training.imageSize"),
        ({"training": {"stallTimeout": "soon"}}, "training.stallTimeout"),
        ({"training": {"loss": {"terms": []}}}, "training.loss.terms"),
        ({"training": {"lr": 0.1}}, "training.lr"),
        ({"dataset": {"testSize": 1}}, "dataset.testSize"),
        ({"dataset": {"name": "../secrets"}}, "dataset.name"),
        ({"dataset": {"name": "a/b/c"}}, "dataset.name"),
        ({"dataset": {"ignoreIndex": 256}}, "dataset.ignoreIndex"),
        ({"model": {"architecture": "Unet3000"}}, "model.architecture"),
        ({"resources": {"memory": "lots"}}, "resources.memory"),
        ({"epochs": 3}, "epochs"),
    ],
)
def test_a_wrong_field_value_or_type_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingJobSpec.model_validate(merged(SMALLEST, change))
    places = [".".join(str(part) for part in error["loc"]) for error in caught.value.errors()]
    assert field in places


@pytest.mark.parametrize("text", ["lots", "2Gb", "2GiB", "-1", "1e3", "", "2Gi\n"])
def test_what_is_no_quantity_is_told_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingJobSpec.model_validate(merged(SMALLEST, {"resources": {"memory": text}}))
    (error,) = caught.value.errors()
    assert error["loc"] == ("resources", "memory")
    assert error["msg"] == "must be a quantity such as 500m, 2 or 16Gi"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"workers": 9}, "spec.training.batchSize"),
    ({"resources": {"gpus": 9}}, "spec.training.batchSize"),
    (
        {"workers": 2, "resources": {"gpus": 2}, "training": {"batchSize": 3}},
        "spec.training.batchSize",
    ),
    ({"training": {"stallTimeout": "0s"}}, "spec.training.stallTimeout"),
    ({"training": {"stallTimeout": "9s"}}, "spec.training.stallTimeout"),
    ({"resources": {"cpu": "0"}}, "spec.resources.cpu"),
    ({"resources": {"cpu": "9m"}}, "spec.resources.cpu"),
    ({"resources": {"memory": "1", "sharedMemory": "1"}}, "spec.resources.memory"),
    ({"resources": {"memory": "63.9Mi", "sharedMemory": "1Mi"}}, "spec.resources.memory"),
    ({"resources": {"memory": "512Mi"}}, "spec.resources.sharedMemory"),
    ({"resources": {"memory": "2G", "sharedMemory": "2Gi"}}, "spec.resources.sharedMemory"),
    ({"training": {"batchSize": 4, "accumulate": 5}}, "spec.training.accumulate"),
    (
        {"dataset": {"classes": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}},
        "spec.dataset.classes",
    ),
    (
        {"training": {"augmentation": {"preset": "Strong", "serialized": "{}"}}},
        "spec.training.augmentation.preset",
    ),
    (
        {"training": {"optimizer": {"name": "Adam", "nesterov": True}}},
        "spec.training.optimizer.nesterov",
    ),
    (
        {"training": {"optimizer": {"name": "SGD", "nesterov": True, "momentum": 0}}},
        "spec.training.optimizer.momentum",
    ),
]
FINE: list[dict[str, Any]] = [
    {"resources": {"cpu": "10m", "memory": "64Mi", "sharedMemory": "65536Ki"}},
    {"resources": {"cpu": "0.01", "memory": "67108864", "sharedMemory": "64M"}},
    {"training": {"batchSize": 4, "accumulate": 4}},
    # What is left of the epochs may be lowered to end early, below a warm-up that is over.
    {"training": {"scheduler": {"warmupEpochs": 5}}},
    {"training": {"stallTimeout": "10s"}},
    {"training": {"stallTimeout": "99999h"}},
    {"dataset": {"classes": [{"name": f"{n:>63}"} for n in range(256)]}},
    {"training": {"augmentation": {"serialized": "{}"}}},
]


@pytest.mark.parametrize(("change", "field"), REFUSED)
def test_what_cant_be_done_is_refused_with_a_sentence(change: dict[str, Any], field: str) -> None:
    said = refusals(TrainingJobSpec.model_validate(merged(SMALLEST, change)))
    assert [line.split(":")[0] for line in said] == [field]


@pytest.mark.parametrize("change", FINE)
def test_what_is_just_within_the_rules_is_fine(change: dict[str, Any]) -> None:
    assert refusals(TrainingJobSpec.model_validate(merged(SMALLEST, change))) == []


def test_every_refusal_is_tried_and_the_smallest_spec_is_fine() -> None:
    assert {field for _, field in REFUSED} == {r.field for r in REFUSALS}
    assert refusals(TrainingJobSpec.model_validate(SMALLEST)) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1h1m1s", 3661)]
)
def test_durations(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("500m", 0.5), ("1.5Ki", 1536), ("3G", 3e9), ("1Ti", 2**40)]
)
def test_quantities(text: str, value: float) -> None:
    assert quantity_value(text) == value


def test_exit_codes_are_one_table() -> None:
    assert set(TABLE) == set(ExitCode)
    assert classify(0) == (Outcome.SUCCEEDED, "Trained")
    assert classify(3) == (Outcome.PERMANENT, "InvalidDataset")
    assert classify(75)[0] is Outcome.INTERRUPTED
    assert classify(42) == classify(1) == (Outcome.FAILED, "TrainerError")
    assert classify(-9)[0] is Outcome.FAILED


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("camvid", True),
        ("alice/street.v2", True),
        ("Alice/data_1", True),
        ("alice/", False),
        ("/alice", False),
        ("..", False),
        ("a/..", False),
        (".hidden", False),
        ("a b", False),
        ("images", False),
        ("alice/Masks", False),
        ("x" * 129, False),
        ("naïve", False),
        ("a\n", False),
    ],
)
def test_names_of_data_sets(name: str, right: bool) -> None:
    assert (workspace.dataset_name_error(name) is None) is right


def test_attempt_folders_sort_by_number() -> None:
    names = [workspace.attempt_name(a, s) for a, s in ((1, 1), (2, 1), (2, 10), (10, 2))]
    assert names == sorted(names)
    assert [workspace.parse_attempt_name(n) for n in names] == [(1, 1), (2, 1), (2, 10), (10, 2)]
    assert workspace.parse_attempt_name(".tmp-0001-0001") is None


def test_the_largest_configuration_fits_the_annotation() -> None:
    spec = TrainingJobSpec.model_validate(
        merged(
            SMALLEST,
            {
                "dataset": {
                    "classes": [
                        {"name": "ü" * 61 + chr(0xC0 + n // 16) + chr(0xC0 + n % 16)}
                        for n in range(256)
                    ]
                },
                "training": {"augmentation": {"serialized": "x" * 32768}},
            },
        )
    )
    config = trainer_config(
        spec, namespace="n" * 63, job="j" * 52, uid="u" * 36, attempt=1, generation=1
    )
    assert len(config.model_dump_json(by_alias=True).encode()) < MAX_CONFIG_BYTES
    assert TrainerConfig.model_validate(config.to_dict()) == config
