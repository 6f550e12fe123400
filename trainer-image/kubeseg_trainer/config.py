"""The configuration: read from a file, checked, followed while it changes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from kubeseg_trainer.config_errors import sentences
from kubeseg_trainer.config_text import TwiceError, load
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.names import KIND, MAX_CONFIG_BYTES
from kubeseg_types.refusals import refusals
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.trainer import TrainerConfig, trainer_config

log = logging.getLogger(__name__)

#: UID of a run that was started without Kubernetes.
LOCAL_UID = "local"

_Model = TypeVar("_Model", bound=BaseModel)


def _validated(model: type[_Model], document: Any, source: str) -> _Model:
    """`document` as `model`, whose fields have one name each, the camelCase one."""
    try:
        return model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigurationError(f"{source}:\n{sentences(error, model, 'spec.')}") from error


def parse_config(text: str, *, source: str = "configuration") -> TrainerConfig:
    """The configuration in `text`: `TrainerConfig` as JSON, or a TrainingJob as YAML or JSON.

    A TrainingJob without a cluster runs under UID `local`, attempt 1 (the caller takes the next
    free one). ConfigurationError names every field that is wrong, and what this version can't do.
    """
    if len(text.encode()) > MAX_CONFIG_BYTES:
        raise ConfigurationError(
            f"{source} has {len(text.encode()):,} bytes, at most {MAX_CONFIG_BYTES:,} are read"
        )
    try:
        document: Any = load(text)
    except TwiceError as error:
        raise ConfigurationError(f"{source}: {error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{source} is neither JSON nor YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"{source} must be a mapping: a {KIND}, or the configuration the operator makes of it"
        )
    if document.get("kind") == KIND:
        return _from_manifest(document, source)
    config = _validated(TrainerConfig, document, source)
    _refuse(config, source)
    return config


def _from_manifest(document: dict[str, Any], source: str) -> TrainerConfig:
    metadata = document.get("metadata") or {}
    name = metadata.get("name")
    if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
        raise ConfigurationError(f"{source}: metadata.name: must be a name, not {name!r}")
    spec = _validated(TrainingJobSpec, document.get("spec") or {}, source)
    refused = refusals(spec)
    if refused:
        raise ConfigurationError(f"{source}:\n" + "\n".join(refused))
    return trainer_config(
        spec,
        namespace=metadata.get("namespace") or "default",
        job=name,
        uid=LOCAL_UID,
        attempt=1,
        generation=metadata.get("generation") or 1,
        annotations={},
    )


def _refuse(config: TrainerConfig, source: str) -> None:
    spec = TrainingJobSpec(
        model=config.model,
        dataset=config.dataset,
        training=config.training,
        checkpoint=config.checkpoint,
        export=config.export,
        init_from=config.init_from,
    )
    refused = refusals(spec)
    if refused:
        raise ConfigurationError(f"{source}:\n" + "\n".join(refused))


def read_config(path: Path) -> TrainerConfig:
    """The configuration in the file at `path`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config {path} can't be read: {error}") from error
    return parse_config(text, source=str(path))


def follow(current: TrainerConfig, newer: TrainerConfig) -> TrainerConfig:
    """`current` with what may change while a job runs taken from `newer`.

    An older generation changes nothing.
    """
    if newer.generation < current.generation:
        return current
    training = current.training.model_copy(
        update={
            "epochs": newer.training.epochs,
            "early_stopping": newer.training.early_stopping,
        }
    )
    return current.model_copy(
        update={
            "training": training,
            "checkpoint": newer.checkpoint,
            "stop": newer.stop,
            "generation": newer.generation,
            "annotations": newer.annotations,
        }
    )


#: Of `training`: what may differ between the starts of one run, live or from attempt to attempt.
_FREE = frozenset({"epochs", "earlyStopping", "accumulate", "batchSize", "stallTimeout"})


def defining(config: TrainerConfig) -> dict[str, Any]:
    """The part of the configuration that makes it this training and no other, flat, by field."""
    training = config.training.to_dict()
    flat = {f"training.{key}": value for key, value in training.items() if key not in _FREE}
    return flat | {
        "model": config.model.to_dict(),
        "dataset": config.dataset.to_dict(),
        "initFrom": config.init_from.to_dict() if config.init_from else None,
    }


#: How fields begin that say what is trained on what, and how; others name the job and its attempt.
_DESCRIBES = ("model", "dataset", "training", "export", "initFrom")


def fixed_changes(current: TrainerConfig, newer: TrainerConfig) -> list[str]:
    """Fields in which `newer` differs though they can't change while a job runs."""
    if newer.generation < current.generation:
        return []
    asked, followed = (_fields(one.to_dict()) for one in (newer, follow(current, newer)))
    return sorted(
        field
        for field in asked.keys() | followed.keys()
        if field.startswith(_DESCRIBES) and asked.get(field) != followed.get(field)
    )


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration, two levels deep, by their path."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        inner = value if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return flat


class ConfigSource:
    """The configuration file of a running trainer: `poll` follows its changes."""

    def __init__(self, path: Path, config: TrainerConfig) -> None:
        self._path = path
        self._seen = self._signature()
        self.config = config
        #: Fields that were changed in vain, as last said.
        self._in_vain: list[str] = []

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            # The kubelet swaps the file by a link: it may be away for an instant.
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def poll(self) -> bool:
        """Whether the file now says something else; `config` then follows it.

        A file that can't be read or is wrong is logged, and the last good configuration stands.
        """
        signature = self._signature()
        if signature is None or signature == self._seen:
            return False
        self._seen = signature
        try:
            newer = read_config(self._path)
        except ConfigurationError as error:
            log.warning("the changed configuration is not followed: %s", error)
            return False
        followed = follow(self.config, newer)
        self._name_fixed(fixed_changes(self.config, newer))
        changed = followed != self.config
        self.config = followed
        return changed

    def _name_fixed(self, fields: list[str]) -> None:
        """Warn of `fields` that were changed in vain, once."""
        if fields and fields != self._in_vain:
            named = ", ".join(f"spec.{field}" for field in fields)
            log.warning(
                "%s can't change while it runs: the training goes on with the old value. Make a "
                "job with another name for a new one",
                named,
            )
        self._in_vain = fields
