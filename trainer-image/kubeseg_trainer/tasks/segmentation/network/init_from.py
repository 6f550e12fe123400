"""`initFrom`: beginning with the weights of another run of the same workspace."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor, nn

from kubeseg_trainer.engine.decisions import ranked
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.run_directory import attempt_folders
from kubeseg_trainer.tasks.segmentation.network.preprocessing import preprocessing_of
from kubeseg_types import workspace
from kubeseg_types.spec import InitFrom, Model
from kubeseg_types.trainer import EpochRecord, RunRecord, TrainerConfig, WeightsFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Weights of another run's epoch."""

    #: Names the run and the epoch, for messages.
    name: str
    path: Path
    sha256: str
    #: What that run trained, as its record says.
    model: Model


def find_source(root: Path, config: TrainerConfig) -> Source | None:
    """The weights that `config.init_from` asks for, in the workspace at `root`; None: for none.

    ConfigurationError where they are not there, are those of another network, or are this run's.
    """
    wanted = config.init_from
    if wanted is None:
        return None
    base, record = _newest_run(root, wanted, config)
    history = _history(base)
    if not history:
        raise ConfigurationError(
            f"spec.initFrom.job: {wanted.job} ({base.relative_to(root)}) has finished no epoch yet"
        )
    chosen = _choose(root, wanted, history)
    try:
        model = Model.model_validate(record.config["model"])
    except (KeyError, ValidationError) as error:
        raise ConfigurationError(
            f"spec.initFrom.job: {base.relative_to(root)}/{workspace.RUN_FILE} names no model"
        ) from error
    weights = chosen.weights
    assert weights is not None
    name = f"{wanted.job}, epoch {chosen.epoch}"
    _refuse_another_network(name, model, config.model)
    return Source(name, root / weights.path, weights.sha256, model)


def _newest_run(root: Path, wanted: InitFrom, config: TrainerConfig) -> tuple[Path, RunRecord]:
    """Folder and record of the newest run of that job, this run left out."""
    folder = root / workspace.RUNS / wanted.job
    records = []
    for file in folder.glob(f"*/{workspace.RUN_FILE}"):
        if (wanted.job, file.parent.name) == (config.job, config.uid):
            continue
        try:
            records.append((file.parent, RunRecord.model_validate_json(file.read_bytes())))
        except (OSError, ValidationError) as error:
            log.warning("%s is no record of a run, and left out: %s", file, error)
    if records:
        return max(records, key=lambda each: (each[1].started, each[0].name))
    if wanted.job == config.job:
        raise ConfigurationError(
            f"spec.initFrom.job: {wanted.job} is this job itself, and no earlier run of that name "
            f"is there: name another, or leave initFrom out"
        )
    jobs = _jobs_with_weights(root, but=config.job)
    near = difflib.get_close_matches(wanted.job, jobs, n=1)
    guess = f' Did you mean "{near[0]}"?' if near else ""
    raise ConfigurationError(
        f"spec.initFrom.job: the workspace has no run of {wanted.job!r}.{guess} There: "
        f"{', '.join(jobs[:20]) or 'none'}"
    )


def _jobs_with_weights(root: Path, *, but: str) -> list[str]:
    """Jobs, `but` for one, of which a run has finished an epoch."""
    jobs = set()
    for file in root.glob(f"{workspace.RUNS}/*/*/{workspace.RUN_FILE}"):
        with contextlib.suppress(OSError, ValidationError):
            record = RunRecord.model_validate_json(file.read_bytes())
            if record.best_weights is not None and record.job != but:
                jobs.add(file.parent.parent.name)
    return sorted(jobs)


def _history(base: Path) -> list[EpochRecord]:
    """The finished epochs of the run at `base`, from its newest metrics.jsonl."""
    for attempt in reversed(attempt_folders(base)):
        file = attempt / workspace.METRICS_FILE
        if not file.is_file():
            continue
        records = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                records.append(EpochRecord.model_validate_json(line))
            except ValidationError:
                # A last line that is being written; nothing after it counts.
                break
        return records
    return []


def _choose(root: Path, wanted: InitFrom, history: list[EpochRecord]) -> EpochRecord:
    def there(weights: WeightsFile | None) -> bool:
        return weights is not None and (root / weights.path).is_file()

    kept = [record for record in history if there(record.weights)]
    if wanted.epoch == "best":
        found = [ranked(history)[0]]
    elif wanted.epoch == "last":
        found = [history[-1]]
    else:
        found = [record for record in history if record.epoch == int(wanted.epoch)]
    if found and there(found[0].weights):
        return found[0]
    epochs = ", ".join(str(record.epoch) for record in kept) or "none"
    reason = (
        f"epoch {found[0].epoch}'s weights are not kept"
        if found
        else f"it has {len(history)} epochs"
    )
    raise ConfigurationError(
        f"spec.initFrom.epoch: {wanted.epoch!r} of {wanted.job} can't be had: {reason}. Epochs "
        f"whose weights are there: {epochs} (all of a run's: checkpoint.keepEpochs)"
    )


def _refuse_another_network(name: str, theirs: Model, ours: Model) -> None:
    if (theirs.architecture, theirs.encoder) != (ours.architecture, ours.encoder):
        raise ConfigurationError(
            f"spec.initFrom: {name} is {theirs.architecture.value} on {theirs.encoder}, this job "
            f"{ours.architecture.value} on {ours.encoder}: they must be the same network (classes, "
            f"channels and image size may differ)"
        )


def load_source(network: nn.Module, source: Source, model: Model) -> None:
    """Put the weights of `source` into `network`, in place, as far as they fit.

    What has another shape stays as it is, at its random start, and the log says so: the head, where
    the classes differ. A first convolution for another number of channels is adapted.
    ConfigurationError where the file is damaged.
    """
    tensors, metadata = _verified(source)
    channels = int(metadata.get("inChannels", source.model.in_channels))
    own = network.state_dict()
    left, adapted = [], []
    with torch.no_grad():
        for name, value in own.items():
            given = tensors.get(name)
            if given is not None and _other_channels(given, value, channels, model.in_channels):
                given = adapt_channels(given, model.in_channels)
                adapted.append(name)
            if given is None or given.shape != value.shape:
                left.append(name)
                continue
            value.copy_(given)
    if len(left) == len(own):
        raise ConfigurationError(
            f"spec.initFrom: {source.path} holds nothing of this network: was it written by an "
            f"older version of smp or timm? Choose another run"
        )
    log.info("weights of %s (%s)", source.name, source.path.name)
    if adapted:
        log.info(
            "adapted from %d to %d channels: %s", channels, model.in_channels, _listed(adapted)
        )
    if left:
        log.info("at their random start (not in it, or of another shape there): %s", _listed(left))
    before = preprocessing_of(source.model)
    if before != preprocessing_of(model):
        log.warning(
            "that run's images were normalised with mean %s, these are with %s: set "
            "spec.model.encoderWeights as there (%s)",
            before.mean,
            preprocessing_of(model).mean,
            source.model.encoder_weights or "none",
        )


def _verified(source: Source) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        data = source.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != source.sha256:
            raise ConfigurationError(
                f"spec.initFrom: {source.path} doesn't match the hash in its run's history: it was "
                f"damaged or replaced. Choose another epoch"
            )
        with safe_open(source.path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
        return load(data), metadata
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ConfigurationError(
            f"spec.initFrom: {source.path} can't be read: {error}. Choose another epoch"
        ) from error


def _other_channels(given: Tensor, own: Tensor, theirs: int, ours: int) -> bool:
    """Whether `given` is a first convolution's weight for another number of channels."""
    return (
        theirs != ours
        and given.ndim == own.ndim == 4
        and (given.shape[1], own.shape[1]) == (theirs, ours)
        and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:])
    )


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight (out × in × H × W) for `channels` inputs, as smp and timm do it.

    Summed over the inputs for one channel; else they take turns, scaled by old/new channels so that
    what comes out stays about as large.
    """
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = torch.arange(channels) % weight.shape[1]
    return weight[:, turns] * (weight.shape[1] / channels)


def _listed(names: list[str]) -> str:
    more = f" (+{len(names) - 6} more)" if len(names) > 6 else ""
    return f"{', '.join(names[:6])}{more}"
