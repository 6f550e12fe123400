"""What of a configuration can be tried before a training. A good answer is kept.

`checks/<digest>.tried` says that this network takes pictures of this size, and the augmentation
those of these channels and bits, with these versions of the libraries. It
may be removed at any time: then it is tried again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Callable
from pathlib import Path

from kubeseg_trainer.errors import StorageError
from kubeseg_trainer.files import now, write_file
from kubeseg_trainer.tasks import TaskKind
from kubeseg_types import workspace
from kubeseg_types.trainer import TrainerConfig

log = logging.getLogger(__name__)

#: Of what is tried: an answer to another set of questions is not read.
_QUESTIONS = 2


def try_out(
    root: Path, kind: TaskKind, config: TrainerConfig, bits: int, beat: Callable[[], None]
) -> bool:
    """Try the network, the augmentation on data of so many `bits`, and look for the weights it is
    to begin with; True where nothing had to be tried, since an earlier answer was kept in the
    workspace at `root`.

    ConfigurationError as the trainer's own start would have it. `beat` is called while a hub is
    waited for, and may raise.
    """
    file = root / workspace.CHECKS / f"{_digest(kind, config, bits)}.tried"
    kept = file.is_file()
    if not kept:
        # Imports torch, and builds the network: seconds.
        kind.refuse_early(config, bits)
        _keep(file)
    beat()
    if config.init_from is not None or config.model.encoder_weights is not None:
        kind.find_beginning(root, config, beat)
    return kept


def _digest(kind: TaskKind, config: TrainerConfig, bits: int) -> str:
    """Changes when anything does that `refuse_early` depends on."""
    training = config.training
    versions = [importlib.metadata.version(name) for name in ("kubeseg", "torch", *kind.packages)]
    asked = [
        _QUESTIONS,
        bits,
        config.model.to_dict(),
        training.augmentation.to_dict(),
        training.image_size,
        versions,
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _keep(file: Path) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        write_file(file, json.dumps({"formatVersion": 1, "time": now()}).encode())
    except (OSError, StorageError) as error:
        log.info("that the network can be built is not kept: %s", error)
