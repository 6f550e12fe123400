"""How pictures are normalised for an encoder's pretrained weights: as when these were made."""

from __future__ import annotations

import timm

from kubeseg_trainer.tasks.segmentation.data.normalisation import Normalisation
from kubeseg_types.spec import Model

IMAGENET = Normalisation()
_HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = Normalisation((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)


def preprocessing_of(model: Model) -> Normalisation:
    """What the weights `model.encoder_weights` of the encoder want; ImageNet's where none are used.

    A function of the names alone, so that a resumed run normalises as it began, whatever has become
    of the weights' file. Weights of smp: what smp's settings said while they still stood in its
    source (before 0.5; since then they are on the hub), all of them RGB from 0 to 1. Weights of
    timm: its own. Weights of other names, one's own: ImageNet's.
    """
    encoder, name = model.encoder, model.encoder_weights
    if name is None:
        return IMAGENET
    if encoder.startswith("tu-"):
        return _timm(encoder, name)
    if name == "advprop" or encoder.startswith(("inception", "xception", "timm-tf_efficientnet")):
        return _HALF
    return _DPN if encoder.startswith("dpn") else IMAGENET


def _timm(encoder: str, name: str) -> Normalisation:
    full = timm_name(encoder, name)
    settings = None if full is None else timm.get_pretrained_cfg(full, allow_unregistered=True)
    if settings is None or len(settings.mean) != 3:
        return IMAGENET
    return Normalisation(tuple(settings.mean), tuple(settings.std))


def timm_tags(encoder: str) -> list[str]:
    """Names of timm's weights for the encoder `tu-<name>` or `tu-<name>.<tag>`, its own choice
    first.
    """
    architecture, _, tag = encoder.removeprefix("tu-").partition(".")
    default = timm.models.get_pretrained_cfg(architecture)
    first = default.tag if default is not None else None
    found = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    tags = sorted(found, key=lambda each: (each != first, each))
    return [each for each in tags if not tag or each == tag]


def timm_name(encoder: str, name: str) -> str | None:
    """Timm's name, with its tag, of the weights `name` of the encoder; None where it has no such.

    `imagenet` stands for timm's own choice.
    """
    tags = timm_tags(encoder)
    if name == "imagenet" and tags:
        name = tags[0]
    architecture = encoder.removeprefix("tu-").partition(".")[0]
    return f"{architecture}.{name}" if name in tags else None
