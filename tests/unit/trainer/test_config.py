"""What is said of a configuration that is wrong: sentences, by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kubeseg_trainer.config import parse_config
from kubeseg_trainer.config_errors import PATTERNS
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.spec import TrainingJobSpec


def _refused(spec: dict[str, Any]) -> list[str]:
    """The lines on a TrainingJob with this in its spec."""
    whole: dict[str, Any] = {"dataset": {"name": "d"}, "training": {"epochs": 1}}
    for key, value in spec.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    job = {"kind": "TrainingJob", "metadata": {"name": "a"}, "spec": whole}
    with pytest.raises(ConfigurationError) as caught:
        parse_config(yaml.safe_dump(job), source="job.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "job.yaml:"
    assert lines
    return lines


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"training": {"loss": {"terms": []}}},
            "spec.training.loss.terms: must have at least 1 entry, not 0",
        ),
        (
            {"model": {"encoderWeights": "../x"}},
            "beginning with a letter or digit, not '../x'",
        ),
        (
            {"training": {"stallTimeout": "soon"}},
            "spec.training.stallTimeout: must be a duration such as 90s, 30m or 1h30m, not 'soon'",
        ),
        ({"training": {"batchSize": "many"}}, "must be a whole number, not 'many'"),
        ({"training": {"batchSize": 1.5}}, "must be a whole number, not 1.5"),
        ({"training": {"learningRate": 3}}, "must be at most 1, not 3"),
        ({"training": {"learningRate": 0}}, "must be above 0, not 0"),
        ({"training": {"compile": "maybe"}}, "must be true or false, not 'maybe'"),
        ({"training": {"loss": {"terms": 3}}}, "must be a list, not 3"),
        ({"checkpoint": 3}, "spec.checkpoint: must be a mapping with fields, not 3"),
        ({"model": {"encoder": 18}}, "must be text (in quotes), not 18"),
        ({"dataset": {"name": None}}, "must be text (in quotes), not None"),
        ({"model": {"architecture": "Unet3"}}, "spec.model.architecture: must be 'Unet', "),
        ({"image": ""}, "spec.image: must have at least 1 character, not 0"),
        (
            {"initFrom": {"job": "a", "epoch": "first"}},
            "must be 'best' or 'last', or must be the number of an epoch in quotes, such as \"7\"",
        ),
        ({"training": {"epoch": 3}}, "spec.training.epoch: is not a field; did you mean epochs?"),
        (
            {"training": {"learning_rate": 0.1}},
            "spec.training.learning_rate: is not a field; did you mean learningRate?",
        ),
        ({"epochs": 3}, "spec.epochs: is not a field; did you mean training.epochs?"),
        (
            {"training": {"loss": {"terms": [{"name": "Dice", "wieght": 2}]}}},
            "spec.training.loss.terms.0.wieght: is not a field; did you mean weight?",
        ),
        (
            {"training": {"optimizer": {"betas": 2}}},
            "betas: is not a field; there are name, weightDecay, momentum, nesterov",
        ),
    ],
)
def test_each_problem_is_a_sentence(spec: dict[str, Any], sentence: str) -> None:
    lines = _refused(spec)
    assert len(lines) == 1
    assert sentence in lines[0]


def test_the_operators_configuration_is_read_by_the_same_names() -> None:
    config = {"job": "a", "uid": "u", "model": {}, "dataset": {"name": "d"}}
    good = {**config, "training": {"epochs": 1, "batchSize": 4}, "formatVersion": 1}
    assert parse_config(json.dumps(good)).training.batch_size == 4
    bad = {**config, "training": {"epochs": 1, "batch_size": 4}}
    with pytest.raises(ConfigurationError, match="did you mean batchSize"):
        parse_config(json.dumps(bad))


@pytest.mark.parametrize(
    "text",
    [
        "kind: TrainingJob\nspec:\n  training:\n    epochs: 1\n    clip: 1\n    epochs: 2\n",
        '{"kind": "TrainingJob", "spec": {"training": {"epochs": 1, "epochs": 2}}}',
    ],
)
def test_a_key_that_stands_twice_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="epochs stands twice"):
        parse_config(text)


def _patterns(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            yield node["pattern"]
        for child in node.values():
            yield from _patterns(child)
    elif isinstance(node, list):
        for child in node:
            yield from _patterns(child)


def test_every_pattern_has_words() -> None:
    assert set(_patterns(TrainingJobSpec.model_json_schema())) <= PATTERNS.keys()
