"""Going on from a checkpoint: does it belong to this training, and where does it stand."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from kubeseg_trainer.config import defining
from kubeseg_trainer.engine.checkpoint import Checkpoint
from kubeseg_trainer.engine.optimizer import load_optimizer_state
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.task import Sums, Task
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.trainer import EpochRecord, TrainerConfig

log = logging.getLogger(__name__)


def identity_of(task: Task, config: TrainerConfig) -> dict[str, Any]:
    """What a checkpoint says about the training that it belongs to, as JSON."""
    return {
        "classNames": list(task.class_names),
        "fingerprint": task.fingerprint,
        "defining": defining(config),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def refuse_another(stored: dict[str, Any], identity: dict[str, Any], where: str) -> None:
    """ConfigurationError where the checkpoint at `where` belongs to another training."""
    mine, theirs = identity["defining"], stored["defining"]
    changed = sorted(key for key in mine | theirs if mine.get(key) != theirs.get(key))
    if changed:
        raise ConfigurationError(
            f"{', '.join(f'spec.{key}' for key in changed)}: must stay as in the run that is there "
            f"({where}): give this training another name, or remove that run"
        )
    if stored["classNames"] != identity["classNames"]:
        raise ConfigurationError(
            f"the data set now has {len(identity['classNames'])} classes, the run began with "
            f"{len(stored['classNames'])} ({where}): name the classes in spec.dataset.classes, or "
            f"give this training another name"
        )


def restore(
    found: Checkpoint,
    task: Task,
    optimizer: torch.optim.Optimizer,
    config: TrainerConfig,
    device: torch.device,
) -> State:
    """Put the checkpoint into network and optimizer; returns where it stands."""
    stored, identity = found.state, identity_of(task, config)
    refuse_another(stored, identity, str(found.path))
    if stored["fingerprint"] != identity["fingerprint"]:
        log.warning("the data set's files have changed since the checkpoint was written")
    if stored["threads"] != identity["threads"] or stored["torch"] != identity["torch"]:
        log.info(
            "the checkpoint was made with %s threads and torch %s: from here on numbers may differ "
            "in the last digits from a run without a break",
            stored["threads"],
            stored["torch"],
        )
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "sums": {}}
    for name, value in found.tensors.items():
        group, _, rest = name.partition("/")
        groups[group][rest] = value
    task.network.load_state_dict(groups["network"])
    load_optimizer_state(task.network, optimizer, groups["optimizer"])
    return State(
        sums=Sums(**{name: value.to(device) for name, value in groups["sums"].items()}),
        step=stored["step"],
        position=min(stored["position"], len(task.train)),
        seconds=stored["seconds"],
        learning_rate=stored["learningRate"],
        history=[EpochRecord.model_validate(entry) for entry in stored["history"]],
        generation=max(stored["generation"], config.generation),
    )
