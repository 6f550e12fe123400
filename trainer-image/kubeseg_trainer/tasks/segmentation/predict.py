"""Using a trained model: one image in, one label image out."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.images import Pixels, resize_image
from kubeseg_trainer.tasks.segmentation.network import build_network, crop, padded_side, prepare
from kubeseg_types.spec import Architecture, Model


@lru_cache(maxsize=2)
def load_network(weights: Path) -> tuple[nn.Module, int, int]:
    """(network in evaluation mode, image size, padded size) of a weights file.

    ConfigurationError where it is none of kubeseg's.
    """
    try:
        with safe_open(weights, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = Model(
            architecture=Architecture(metadata["architecture"]), encoder=metadata["encoder"]
        )
        classes = len(json.loads(metadata["classes"]))
        side = int(metadata["imageSize"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"{weights} is no weights file of kubeseg (safetensors with its metadata): {error}"
        ) from error
    network = build_network(model, classes)
    network.load_state_dict(tensors)
    network.eval()
    return network, side, padded_side(network, side, model)


def predict(weights_path: Path | str, image: Pixels) -> NDArray[np.uint8]:
    """Labels (H × W, uint8) that the model at `weights_path` gives an RGB image (H × W × 3)."""
    network, side, padded = load_network(Path(weights_path))
    height, width = image.shape[:2]
    square = np.ascontiguousarray(resize_image(image, side).transpose(2, 0, 1))
    with torch.inference_mode():
        logits = network(prepare(torch.from_numpy(square)[None], padded))
        logits = crop(logits, side, side)
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        labels: NDArray[np.uint8] = logits.argmax(dim=1)[0].to(torch.uint8).numpy()
    return labels
