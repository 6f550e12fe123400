"""Going on from a checkpoint: does it belong to this training, and where does it stand."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kubeseg_trainer.config import defining
from kubeseg_trainer.engine.checkpoint import (
    Checkpoint,
    DamagedError,
    checkpoint_name,
    first_problem,
    usable,
)
from kubeseg_trainer.engine.group import ALONE, Group
from kubeseg_trainer.engine.precision import SCALER_TENSORS
from kubeseg_trainer.engine.state import State, StateDocument
from kubeseg_trainer.engine.steps import Stepper
from kubeseg_trainer.engine.task import Sums, Task
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types.trainer import TrainerConfig

log = logging.getLogger(__name__)

#: Parts of a checkpoint that are the stepper's.
_STEPPER = ("optimizer", "scaler", "ema")


def identity_of(task: Task, config: TrainerConfig) -> dict[str, Any]:
    """What a checkpoint says about the training that it belongs to, as JSON."""
    return {
        "classNames": list(task.class_names),
        "fingerprint": task.fingerprint,
        "defining": defining(config),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def refuse_another(stored: StateDocument, identity: dict[str, Any], where: str) -> None:
    """ConfigurationError where the checkpoint at `where` belongs to another training."""
    mine, theirs = identity["defining"], stored.defining
    changed = sorted(key for key in mine | theirs if mine.get(key) != theirs.get(key))
    if changed:
        raise ConfigurationError(
            f"{', '.join(f'spec.{key}' for key in changed)}: must stay as in the run that is there "
            f"({where}): give this training another name, or remove that run"
        )
    if stored.class_names != identity["classNames"]:
        raise ConfigurationError(
            f"the data set now has {len(identity['classNames'])} classes, the run began with "
            f"{len(stored.class_names)} ({where}): name the classes in spec.dataset.classes, or "
            f"give this training another name"
        )


def _candidates(group: Group, run: RunDirectory) -> Iterator[Checkpoint]:
    """The checkpoints that rank 0 finds whole, the newest first, on all ranks: nobody else reads
    them, so that a shared file system's caches can't make two ranks go on from different places.
    """
    if group.size == 1:
        yield from usable(run.own_attempts)
        return
    found = usable(run.own_attempts) if group.leads else iter(())
    while True:
        mine = next(found, None)
        about = None if mine is None else [str(mine.path), mine.state.decode(), mine.time]
        shared = group.share(about)
        if shared is None:
            return
        path, state, time = shared
        tensors = group.share_tensors({} if mine is None else mine.tensors)
        yield Checkpoint(path=Path(path), tensors=tensors, state=state.encode(), time=time)


def share_network(group: Group, network: nn.Module) -> None:
    """Begin with rank 0's weights on all ranks: random ones, or those it has loaded."""
    if group.size > 1:
        network.load_state_dict(group.share_tensors(network.state_dict()))


def resume_newest(
    run: RunDirectory,
    task: Task,
    stepper: Stepper,
    config: TrainerConfig,
    device: torch.device,
    *,
    group: Group = ALONE,
) -> tuple[State, Checkpoint] | None:
    """Put the newest checkpoint that is whole into network and stepper; None where none is.

    ConfigurationError where it belongs to another training.
    """
    for found in _candidates(group, run):
        try:
            state = restore(found, task, stepper, config, device)
            if not group.leads:
                # The sums so far are rank 0's: they are added up over all.
                state.sums = Sums.zero(task.new_counts())
            return state, found
        except DamagedError as error:
            log.warning("checkpoint %s is left out: %s; trying the one before", found.path, error)
    share_network(group, task.network)
    return None


def restore(
    found: Checkpoint,
    task: Task,
    stepper: Stepper,
    config: TrainerConfig,
    device: torch.device,
) -> State:
    """Put the checkpoint into network and stepper; returns where it stands.

    DamagedError, before anything is changed, where its contents can't be those of a checkpoint;
    ConfigurationError where it belongs to another training.
    """
    stored = _document(found)
    identity = identity_of(task, config)
    refuse_another(stored, identity, str(found.path))
    groups = _groups(found.tensors)
    _refuse_misfits(groups, task, config)
    if stored.fingerprint != identity["fingerprint"]:
        log.warning("the data set's files have changed since the checkpoint was written")
    if stored.threads != identity["threads"] or stored.torch != identity["torch"]:
        log.info(
            "the checkpoint was made with %s threads and torch %s: from here on numbers may differ "
            "in the last digits from a run without a break",
            stored.threads,
            stored.torch,
        )
    task.network.load_state_dict(groups["network"])
    stepper.load(
        {f"{part}/{name}": v for part in _STEPPER for name, v in groups[part].items()},
        stored.stepper.model_dump(),
    )
    return State(
        sums=Sums(**{name: value.to(device) for name, value in groups["sums"].items()}),
        step=stored.step,
        position=min(stored.position, len(task.train)),
        seconds=stored.seconds,
        learning_rate=stored.learning_rate,
        history=list(stored.history),
        generation=max(stored.generation, config.generation),
    )


def _document(found: Checkpoint) -> StateDocument:
    try:
        stored = StateDocument.model_validate_json(found.state)
    except ValidationError as error:
        raise DamagedError(f"state.json can't be one: {first_problem(error)}") from error
    name = checkpoint_name(len(stored.history), stored.step)
    if name != found.path.name:
        raise DamagedError(f"state.json is that of checkpoint {name}")
    return stored


def _groups(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in ("network", "sums", *_STEPPER)}
    for name, value in tensors.items():
        group, _, rest = name.partition("/")
        if group not in groups:
            raise DamagedError(f"it holds {name}, which this version doesn't know")
        groups[group][rest] = value
    return groups


def _refuse_misfits(
    groups: dict[str, dict[str, Tensor]], task: Task, config: TrainerConfig
) -> None:
    """DamagedError where a tensor is missing, surplus or of another shape or type."""
    network = task.network.state_dict()
    _refuse_unlike("network", groups["network"], network)
    _refuse_unlike("sums", groups["sums"], Sums.zero(task.new_counts())._asdict())
    for name, value in groups["optimizer"].items():
        parameter = network.get(name.rpartition("/")[0])
        if parameter is None or value.shape not in (parameter.shape, torch.Size([])):
            raise DamagedError(f"optimizer/{name} belongs to no parameter")
    if config.training.ema is not None:
        trained: dict[str, Tensor] = {
            n: p for n, p in task.network.named_parameters() if p.requires_grad
        }
        _refuse_unlike("ema", groups["ema"], trained)
    if groups["scaler"] and groups["scaler"].keys() != SCALER_TENSORS:
        raise DamagedError(f"scaler/ holds {sorted(groups['scaler'])}")
    for name, value in groups["scaler"].items():
        if value.numel() != 1:
            raise DamagedError(f"scaler/{name} is {_kind(value)}, must be one number")


def _refuse_unlike(group: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            what = "is missing" if name in wanted else "is surplus"
            raise DamagedError(f"{group}/{name} {what}")
        if (found[name].shape, found[name].dtype) != (wanted[name].shape, wanted[name].dtype):
            raise DamagedError(
                f"{group}/{name} is {_kind(found[name])}, must be {_kind(wanted[name])}"
            )


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}".removeprefix("torch.")
