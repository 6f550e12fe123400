"""What a network begins with, where there is no checkpoint of its own to go on from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kubeseg_trainer.tasks.segmentation.network.encoder_weights import find_weights, load_encoder
from kubeseg_trainer.tasks.segmentation.network.hub import fetch_apart
from kubeseg_trainer.tasks.segmentation.network.init_from import Source, find_source, load_source
from kubeseg_types.trainer import TrainerConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """Weights to begin with; neither: random ones, a function of the seed."""

    #: Pretrained weights of the encoder.
    encoder: Path | None = None
    #: Another run's epoch.
    source: Source | None = None


def find_beginning(root: Path, config: TrainerConfig, beat: Callable[[], None]) -> Beginning:
    """Where the weights that `config` asks for lie; fetched from a hub where the workspace at
    `root` lacks them, which may take minutes: `beat` is called meanwhile, and may raise.

    ConfigurationError where they can't be had, with the remedy.
    """
    source = find_source(root, config)
    model = config.model
    if source is not None or model.encoder_weights is None:
        # Another run's weights include its encoder's.
        return Beginning(source=source)
    path = find_weights(root, model.encoder, model.encoder_weights)
    if path is None:
        path = fetch_apart(root, model.encoder, model.encoder_weights, beat)
    return Beginning(encoder=path)


def begin(network: nn.Module, beginning: Beginning, config: TrainerConfig) -> None:
    """Put those weights into `network`, in place, on whatever device it is.

    All other tensors stay as they are: what the seed made of them doesn't depend on it.
    """
    if beginning.encoder is not None:
        load_encoder(network, config.model, config.training.image_size, beginning.encoder)
    if beginning.source is not None:
        load_source(network, beginning.source, config.model)
