"""The model that a run leaves: a folder that smp opens, an ONNX file, a card for people."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp

from kubeseg_trainer.engine.exporting import ExportRequest
from kubeseg_trainer.files import sha256_of
from kubeseg_trainer.tasks.segmentation.data.colours import class_colors
from kubeseg_trainer.tasks.segmentation.data.images import Pixels, resize_image
from kubeseg_trainer.tasks.segmentation.data.normalisation import Normalisation
from kubeseg_trainer.tasks.segmentation.network.network import build_network
from kubeseg_trainer.tasks.segmentation.output.curves import curves_svg
from kubeseg_trainer.tasks.segmentation.output.deployed import model_of
from kubeseg_trainer.tasks.segmentation.output.model_card import CardFacts, model_card
from kubeseg_trainer.tasks.segmentation.output.model_info import ImageMode, ModelInfo, metadata_of
from kubeseg_trainer.tasks.segmentation.output.onnx_process import export_onnx
from kubeseg_types.spec import Dataset, Model
from kubeseg_types.trainer import TrainerConfig

log = logging.getLogger(__name__)

WEIGHTS, ONNX, CARD, CURVES, SAMPLES = (
    "model.safetensors", "model.onnx", "README.md", "curves.svg", "samples",
)  # fmt: skip
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_MOST_PICTURES = 16
#: Images that the ONNX file is compared with PyTorch on.
CHECKED_IMAGES = 2


@dataclass(frozen=True)
class DataFacts:
    """What an export needs to know of the data set."""

    #: Validation images, as read, that the ONNX file is checked on.
    images: Sequence[Pixels]
    #: Images in each part, by its name.
    counts: dict[str, int]
    #: Pixels of each class in the training part.
    class_pixels: Sequence[int]


def weights_metadata(
    model: Model,
    dataset: Dataset,
    class_names: Sequence[str],
    *,
    epoch: int,
    image_size: int,
    image_mode: ImageMode,
    window_overlap: float,
    normalisation: Normalisation,
    bits: int,
) -> dict[str, str]:
    """Metadata of a weights file: enough to build its network and to feed it."""
    return metadata_of(
        ModelInfo(
            architecture=model.architecture.value,
            encoder=model.encoder,
            class_names=tuple(class_names),
            colors=class_colors(dataset.classes, len(class_names)),
            in_channels=model.in_channels,
            epoch=epoch,
            image_size=image_size,
            image_mode=image_mode,
            window_overlap=window_overlap,
            mean=tuple(normalisation.mean),
            std=tuple(normalisation.std),
            bits=bits,
        )
    )


def export_model(
    folder: Path, request: ExportRequest, *, config: TrainerConfig, info: ModelInfo, data: DataFacts
) -> dict[str, Any]:
    """Fill `folder`: config.json, model.safetensors, README.md, curves.svg, samples/, and
    model.onnx where `config` asks for it; returns the report for run.json.
    """
    # Built again, for its configuration alone: the network in training may be elsewhere by now.
    network = build_network(model_of(info), len(info.class_names), info.image_size)
    assert isinstance(network, smp.base.SegmentationModel)
    settings = {**network.config, "_model_class": type(network).__name__}
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    del network
    shutil.copyfile(request.weights, folder / WEIGHTS)
    (folder / CURVES).write_text(curves_svg(request.history, request.best.epoch), encoding="utf-8")
    pictures = _copy_pictures(request.samples, folder / SAMPLES)
    onnx = _onnx(folder, request, config=config, info=info, images=data.images)
    card = model_card(
        CardFacts(
            config=config,
            info=info,
            request=request,
            counts=data.counts,
            class_pixels=data.class_pixels,
            onnx=onnx,
            pictures=[f"{SAMPLES}/{name}" for name in pictures],
        )
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    return {"onnx": onnx}


def _copy_pictures(source: Path | None, target: Path) -> list[str]:
    """Copy the pictures in `source`; their names."""
    if source is None or not source.is_dir():
        return []
    found = [path for path in sorted(source.iterdir()) if path.suffix.lower() in _PICTURES]
    if found:
        target.mkdir()
    for path in found[:_MOST_PICTURES]:
        shutil.copyfile(path, target / path.name)
    return [path.name for path in found[:_MOST_PICTURES]]


def _onnx(
    folder: Path,
    request: ExportRequest,
    *,
    config: TrainerConfig,
    info: ModelInfo,
    images: Sequence[Pixels],
) -> dict[str, Any]:
    """Make model.onnx, or take over what an earlier start made of the same weights."""
    if not config.export.onnx:
        return {"file": None, "reason": "not asked for (export.onnx is false)"}
    known: dict[str, Any] = request.earlier_report.get("onnx") or {}
    earlier = request.earlier / ONNX if request.earlier is not None else None
    made = known.get("file") and earlier is not None and earlier.is_file()
    if made and earlier is not None and sha256_of(earlier) == known.get("sha256"):
        shutil.copyfile(earlier, folder / ONNX)
        return known
    if not request.complete:
        report: dict[str, Any] = {
            "file": None,
            "reason": "left out, since an earlier start was ended from outside while it exported; "
            "if it was for its memory, raise resources.memory. Another start tries again",
        }
    else:
        side = info.image_size
        # A single channel comes back from resizing without its axis.
        planes = [
            resize_image(image, side).reshape(side, side, -1).transpose(2, 0, 1) for image in images
        ]
        pictures = folder / "images.npy"
        np.save(pictures, np.stack(planes))
        try:
            report = export_onnx(folder / WEIGHTS, pictures, folder / ONNX, alive=request.alive)
        finally:
            pictures.unlink(missing_ok=True)
    if report["file"] is None:
        log.warning("there is no ONNX file: %s", report["reason"])
        return report
    file = folder / ONNX
    report |= {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    log.info("%s", onnx_line(report))
    return report


def onnx_line(report: dict[str, Any]) -> str:
    """What was made, and how it compares, in one line."""
    size = "any size" if report["size"] is None else "{}×{} only".format(*report["size"])
    batch = "any batch" if "batch" in report["dynamic"] else "one image at a time"
    checked = ", ".join("{}×{}".format(*check["size"]) for check in report["checks"])
    worst = max(check["largestDifference"] for check in report["checks"])
    return (
        f"{report['file']}: {batch}, {size}; checked at {checked}: logits differ from PyTorch's by "
        f"{worst:.1e} at most  {report['seconds']:.1f}s"
    )
