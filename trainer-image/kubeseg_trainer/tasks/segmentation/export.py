"""The model that a run leaves: a folder that smp opens, with its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import segmentation_models_pytorch as smp

from kubeseg_types.spec import Model
from kubeseg_types.trainer import EpochRecord, TrainerConfig

_README = """\
# {job}

{architecture} on {encoder}, {count} classes, trained by kubeseg on the data set `{dataset}`.
The weights are those of epoch {epoch}: validation IoU {iou:.4f}, Dice {dice:.4f}.

| class | name | IoU | Dice |
|---|---|---|---|
{rows}

## Use

    import segmentation_models_pytorch as smp
    model = smp.from_pretrained("path/to/this/folder").eval()

It expects RGB images of {side} × {side} pixels, scaled to 0..1 and normalised with mean {mean} and
deviation {std}. Sides that it can't take are padded (here to {padded}) and cropped back.
`kubeseg-trainer predict --weights model.safetensors --image IMAGE --out FOLDER` does all of that.
"""


def weights_metadata(
    model: Model, class_names: list[str], *, epoch: int, image_size: int
) -> dict[str, str]:
    """Metadata of a weights file: enough to build the network that it fits."""
    return {
        "architecture": model.architecture.value,
        "encoder": model.encoder,
        "classes": json.dumps(class_names),
        "inChannels": "3",
        "epoch": str(epoch),
        "imageSize": str(image_size),
        "format": "pt",
    }


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def export_model(
    folder: Path,
    weights: Path,
    *,
    config: TrainerConfig,
    class_names: list[str],
    best: EpochRecord,
    padded: int,
) -> None:
    """Fill `folder` with config.json, model.safetensors (a copy of `weights`) and README.md."""
    from kubeseg_trainer.tasks.segmentation.network import MEAN, STD, build_network

    # Built again, for its configuration alone: the network in training may be elsewhere by now.
    network = build_network(config.model, len(class_names))
    assert isinstance(network, smp.base.SegmentationModel)
    settings = {**network.config, "_model_class": type(network).__name__}
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    shutil.copyfile(weights, folder / "model.safetensors")
    scores = zip(class_names, best.validation.class_iou, best.validation.class_dice, strict=True)
    rows = [
        f"| {label} | {name} | {_cell(iou)} | {_cell(dice)} |"
        for label, (name, iou, dice) in enumerate(scores)
    ]
    text = _README.format(
        job=config.job,
        architecture=config.model.architecture.value,
        encoder=config.model.encoder,
        count=len(class_names),
        dataset=config.dataset.name,
        epoch=best.epoch,
        iou=best.validation.iou,
        dice=best.validation.dice,
        rows="\n".join(rows),
        side=config.training.image_size,
        padded=padded,
        mean=MEAN,
        std=STD,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
