"""Pretrained weights of encoders: which there are, where they lie, and how they get in.

A file holds what the encoder's own library calls its state_dict: smp's encoder (torchvision's
names, for those that come from there), or for `tu-<name>` timm's whole model.
"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.network.fitting import (
    assemble_network,
    fit,
    without_numbers,
)
from kubeseg_trainer.tasks.segmentation.network.preprocessing import timm_name, timm_tags
from kubeseg_trainer.tasks.segmentation.network.weights_files import (
    SUFFIXES,
    read_tensors,
    without_prefix,
)
from kubeseg_types import workspace
from kubeseg_types.spec import Model

log = logging.getLogger(__name__)


def known_weights(encoder: str) -> list[str]:
    """Names of the weights that a hub has for the encoder, by smp and timm."""
    if encoder.startswith("tu-"):
        return timm_tags(encoder)
    settings = smp.encoders.encoders[encoder].get("pretrained_settings") or {}
    return list(settings)


def is_known(encoder: str, name: str) -> bool:
    """Whether a hub has the weights `name` of the encoder."""
    if encoder.startswith("tu-"):
        return timm_name(encoder, name) is not None
    return name in known_weights(encoder)


def folder_of(root: Path, encoder: str) -> Path:
    """Where the workspace at `root` keeps weights of the encoder."""
    return root / workspace.WEIGHTS / encoder


def find_weights(root: Path, encoder: str, name: str) -> Path | None:
    """The file with the weights `name` of the encoder in the workspace at `root`, if it is there.

    ConfigurationError where neither the workspace nor a hub knows such weights.
    """
    folder = folder_of(root, encoder)
    for suffix in SUFFIXES:
        file = folder / f"{name}{suffix}"
        if file.is_file():
            return file
    if not is_known(encoder, name):
        raise _unknown(folder, encoder, name)
    return None


def _unknown(folder: Path, encoder: str, name: str) -> ConfigurationError:
    there = [path.stem for path in folder.glob("*") if path.suffix in SUFFIXES]
    names = list(dict.fromkeys([*sorted(there), *known_weights(encoder)]))
    near = difflib.get_close_matches(name, names, n=1)
    guess = f' Did you mean "{near[0]}"?' if near else ""
    known = f"there are {', '.join(names)}" if names else "there are none for this encoder"
    return ConfigurationError(
        f"spec.model.encoderWeights: {name!r} are no weights of {encoder}: {known}.{guess} Weights "
        f"of your own go to {workspace.WEIGHTS}/{encoder}/{name}.safetensors in the workspace"
    )


def load_encoder(network: nn.Module, model: Model, side: int, path: Path) -> None:
    """Put the weights in the file at `path` into the encoder of `network`, in place.

    `network` is what `build_network` gives for `model` and `side`, on any device. With other than
    3 channels the first convolution's weights are adapted, as smp and timm do it: summed for one
    channel, else repeated in turn and scaled by 3/channels. Draws no random numbers.
    ConfigurationError where the file is none of this encoder.
    """
    tensors = read_tensors(path)
    with torch.random.fork_rng(devices=[]):
        if model.encoder.startswith("tu-"):
            loaded = _timm_tensors(model, side, tensors, path)
        else:
            loaded = _smp_tensors(model, tensors, path)
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    own = encoder.state_dict()
    missing = sorted(own.keys() - loaded.keys())
    # A head of timm's that segmentation never uses.
    missing = [name for name in missing if not _is_classifier(encoder, name)]
    if missing:
        raise _misfit(model.encoder, path, f"{_some(missing)} are missing in it")
    with torch.no_grad():
        for name, value in own.items():
            if name in loaded:
                value.copy_(loaded[name])
    log.info("encoder %s: pretrained weights from %s", model.encoder, path)


def expected_names(encoder: str) -> list[str]:
    """Names of the tensors that a weights file of the encoder holds, a classifier's left out."""
    with torch.random.fork_rng(devices=[]):
        if not encoder.startswith("tu-"):
            reference = without_numbers(lambda: smp.encoders.get_encoder(encoder, weights=None))
            return list(reference.state_dict())
        reference = without_numbers(lambda: timm.create_model(encoder.removeprefix("tu-")))
    heads = _classifiers(reference)
    return [
        name
        for name in reference.state_dict()
        if not name.startswith(heads) and not name.endswith("num_batches_tracked")
    ]


def _classifiers(timm_model: nn.Module) -> tuple[str, ...]:
    settings = getattr(timm_model, "pretrained_cfg", None) or {}
    heads = settings.get("classifier") or ()
    return tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))


def _is_classifier(encoder: nn.Module, name: str) -> bool:
    inner = getattr(encoder, "model", None)
    heads = _classifiers(inner) if isinstance(inner, nn.Module) else ()
    return name.removeprefix("model.").startswith(heads)


def canonical(encoder: str, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`tensors`, of the file at `path`, by the names of the encoder's own library, 3 channels.

    ConfigurationError where they are none of this encoder.
    """
    if encoder.startswith("tu-"):
        names = expected_names(encoder)
        found = without_prefix(tensors, names)
        missing = [name for name in names if name not in found]
        if missing:
            raise _misfit(encoder, path, f"{_some(missing)} are missing in it")
        return found
    return dict(_smp_encoder(encoder, tensors, path).state_dict())


def _smp_encoder(encoder: str, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    names = expected_names(encoder)
    found = without_prefix(tensors, names)
    if found.keys() >= set(names):
        found = {name: found[name] for name in names}
    loaded: nn.Module = smp.encoders.get_encoder(encoder, weights=None)
    try:
        # smp drops the classifiers of its encoders here, and knows old names of some tensors.
        loaded.load_state_dict(found)
    except RuntimeError as error:
        raise _misfit(encoder, path, _one_line(error)) from error
    return loaded


def _smp_tensors(model: Model, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    encoder = _smp_encoder(model.encoder, tensors, path)
    encoder.set_in_channels(model.in_channels, pretrained=True)  # type: ignore[operator]
    return dict(encoder.state_dict())


def _timm_tensors(
    model: Model, side: int, tensors: dict[str, Tensor], path: Path
) -> dict[str, Tensor]:
    found = canonical(model.encoder, tensors, path)
    settings = dict(fit(model, side).settings)
    settings["pretrained_cfg_overlay"] = {"state_dict": found, "source": "", "custom_load": False}
    try:
        # Once more with timm's own way in: it knows what its models' weights need.
        network = assemble_network(model, 2, settings, pretrained=True)
    except (RuntimeError, KeyError, ValueError) as error:
        raise _misfit(model.encoder, path, _one_line(error)) from error
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    return dict(encoder.state_dict())


def _some(names: list[str]) -> str:
    more = f" (+{len(names) - 3} more)" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _misfit(encoder: str, path: Path, why: str) -> ConfigurationError:
    owner = f"smp.encoders.get_encoder({encoder!r})"
    if encoder.startswith("tu-"):
        owner = f"timm.create_model({encoder.removeprefix('tu-')!r})"
    return ConfigurationError(
        f"spec.model.encoderWeights: {path} doesn't fit the encoder {encoder}: {why}. It must hold "
        f"the state_dict of {owner}"
    )
