"""Which size and which settings a network needs, found on torch's meta device: shapes, no numbers.

A try takes milliseconds and no memory, so that what can't work is refused before time is spent.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.network.batches_of_one import make_batches_of_one_honest
from kubeseg_types.spec import Architecture, Model

#: What each of the networks can divide its input by; PAN needs more than that when small.
STEP = 32
#: Up to here sizes are tried one by one: networks that need more than a multiple of 32 are small.
_LAST_TRIED = 256
#: What works instead.
GO_WITH_ALL = (
    "resnet34 and mobilenet_v2 go with every architecture but DPT, which takes timm's alone "
    "(tu-vit_tiny_patch16_224, tu-convnext_tiny), vision transformers first of all"
)


class Fit(NamedTuple):
    """How a network takes pictures of a size."""

    #: Side in pixels that they are padded to, at least their own.
    side: int
    #: What the encoder is built with beyond its name (transformers of timm want to know the size).
    settings: dict[str, Any]


def assemble_network(
    model: Model, classes: int, settings: dict[str, Any], *, pretrained: bool = False
) -> nn.Module:
    """Smp's network; whatever smp or timm raise where there is no such one.

    `pretrained` is timm's: weights from where `settings` say.
    """
    with warnings.catch_warnings():
        # About names that smp will give up some day; nothing a run's log needs. And about encoders
        # without a class token, which DPT takes.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        network: nn.Module = smp.create_model(
            model.architecture.value,
            encoder_name=model.encoder,
            encoder_weights=True if pretrained else None,
            in_channels=model.in_channels,
            classes=classes,
            **settings,
        )
    return network


def _failure(network: nn.Module, channels: int, side: int) -> Exception | None:
    """Why `network`, on the meta device, can't do a square of `side`; None where it can.

    In training too, one picture at a time.
    """
    try:
        for mode in (False, True):
            network.train(mode)
            with torch.no_grad():
                shape = network(torch.empty(1, channels, side, side, device="meta")).shape
            if shape[2:] != (side, side):
                return ValueError(f"{side} pixels in give {tuple(shape[2:])} out")
    except Exception as error:  # noqa: BLE001 - whatever a network of a library may raise
        return error
    return None


def _candidates(side: int) -> list[int]:
    first = math.ceil(side / STEP) * STEP
    return list(dict.fromkeys([first, *range(first, _LAST_TRIED + 1, STEP), -(-side // 128) * 128]))


def _settings(side: int) -> Iterator[dict[str, Any]]:
    """What an encoder may need to take squares of `side`, the plainest first."""
    yield {}
    # Of timm's transformers, some take any size when asked to, others one that they are told.
    yield {"dynamic_img_size": True}
    yield {"img_size": side}


class _EmptyOnMeta(TorchFunctionMode):
    """Parameters without numbers, all other tensors with."""

    _FACTORIES = (torch.empty, torch.zeros, torch.ones)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        wanted = dict(kwargs or {})
        if func in self._FACTORIES and wanted.get("device") is None:
            wanted["device"] = "meta"
        return func(*args, **wanted)


def without_numbers(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` builds, on the meta device; whatever `build` raises."""
    # Some encoders look at numbers while they are built (mit): these have them, parameters don't.
    for device in (torch.device("meta"), _EmptyOnMeta()):
        try:
            with device:
                network = build()
        except Exception:  # noqa: BLE001, S112 - what counts is raised by the last try
            continue
        return network.to("meta")
    return build().to("meta")


def meta_network(model: Model, settings: dict[str, Any]) -> nn.Module:
    """The network of `model` with 2 classes, without numbers in it."""
    network = without_numbers(lambda: assemble_network(model, 2, settings))
    make_batches_of_one_honest(network)
    return network


def _try(model: Model, side: int) -> Fit | Exception:
    """The first fit that works, or why the plainest network doesn't."""
    first: Exception | None = None
    timm = model.encoder.startswith("tu-")
    built: dict[str, nn.Module] = {}
    for candidate in _candidates(side):
        for settings in _settings(candidate):
            key = str(settings)
            try:
                network = built[key] if key in built else meta_network(model, settings)
            except Exception as error:  # noqa: BLE001 - as above: libraries of many authors
                if first is None:
                    first = error
                if not settings:
                    # The encoder itself can't be built: no setting will help.
                    return first
                continue
            built[key] = network
            failure = _failure(network, model.in_channels, candidate)
            if failure is None:
                return Fit(candidate, settings)
            first = first or failure
            if not timm:
                break
    assert first is not None
    return first


@lru_cache(maxsize=256)
def fit_once(architecture: Architecture, encoder: str, in_channels: int, side: int) -> Fit | str:
    """The fit, or why there is none; each is tried once in a process."""
    model = Model(architecture=architecture, encoder=encoder, in_channels=in_channels)
    # Some layers draw numbers even here: what comes after must not depend on whether we tried.
    with torch.random.fork_rng(devices=[]):
        result = _try(model, side)
    if isinstance(result, Fit):
        return result
    # The sentence alone is kept: an exception would keep the networks of its frames.
    return (str(result).strip("'\" \n") or type(result).__name__).splitlines()[0]


def fit(model: Model, side: int) -> Fit:
    """How the network of `model` takes squares of `side` pixels.

    ConfigurationError where it can't be built, or can't do any size near it, with what works.
    """
    result = fit_once(model.architecture, model.encoder, model.in_channels, side)
    if isinstance(result, Fit):
        return result
    raise ConfigurationError(
        f"spec.model: {model.architecture.value} can't be built on the encoder {model.encoder!r}: "
        f"{result[:300].rstrip('.')}. Choose another encoder: {GO_WITH_ALL}"
    )
