"""What the demo trains: the sample, or the user's own data with settings that two cores bear."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubeseg_local.demo import shapes
from kubeseg_local.demo.dataset import Pair, pack, read_folder, slug
from kubeseg_local.demo.failure import DemoError
from kubeseg_local.layout import REPOSITORY

SAMPLE = REPOSITORY / "deploy" / "samples" / "quickstart.yaml"
SHAPES = "shapes"
USER = "demo"
# About five minutes on two cores at 160 pixels.
SAMPLES_TO_SEE = 4000
USER_SIZE = 160


@dataclass(frozen=True)
class Wish:
    """What the user asked for; None where nothing was said."""

    data: Path | None = None
    ignore: int | None = None
    epochs: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Plan:
    """One training: its data as a ZIP, its manifest, and the picture to try the model on."""

    dataset: str
    archive: Path
    sha256: str
    manifest: Path
    # Where the model and the picture go.
    results: Path
    described: str
    job: str
    held_back: Pair
    ignore: int | None
    # The same data under a user's name: a study reads <User>/<FileName>.
    copy: str


def user_manifest(name: str, images: int, wish: Wish) -> dict[str, Any]:
    """The TrainingJob for the user's data: small enough for two cores, unless asked otherwise."""
    dataset: dict[str, Any] = {"name": name}
    if wish.ignore is not None:
        dataset["ignoreIndex"] = wish.ignore
    return {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"architecture": "Unet", "encoder": "resnet18"},
            "dataset": dataset,
            "training": {
                "epochs": wish.epochs or min(30, max(5, SAMPLES_TO_SEE // images)),
                "batchSize": min(8, max(1, images // 2)),
                "imageSize": wish.size or USER_SIZE,
            },
            "resources": {"gpus": 0, "cpu": "1", "memory": "3Gi"},
        },
    }


def make_plan(wish: Wish, scratch: Path, results: Path) -> Plan:
    """Check or generate the data, pack it below `scratch`, write what is made into `results`."""
    if wish.data is None:
        return _sample(wish, scratch, results)
    found = read_folder(wish.data)
    name = slug(wish.data.resolve().name)
    # The user's own results don't overwrite the sample's, nor each other.
    results = results / name
    results.mkdir(exist_ok=True)
    manifest = results / "trainingjob.yaml"
    body = user_manifest(name, found.images, wish)
    manifest.write_text(yaml.safe_dump(body, sort_keys=False))
    archive = scratch / f"{name}.zip"
    return Plan(
        dataset=name,
        archive=archive,
        sha256=pack(found.parts, archive),
        manifest=manifest,
        results=results,
        described=f"{found.images} images of {wish.data}",
        job=name,
        held_back=found.held_back,
        ignore=wish.ignore,
        copy=f"{USER}/{name}",
    )


def _sample(wish: Wish, scratch: Path, results: Path) -> Plan:
    if wish.ignore is not None:
        raise DemoError("IGNORE= goes with DATA=: the demo's own data set has no void label")
    folder = scratch / SHAPES
    shapes.write_dataset(folder)
    held_back = shapes.write_sample(scratch / "held-back", "held-back.png", shapes.HELD_BACK)
    archive = scratch / f"{SHAPES}.zip"
    sha256 = pack(_all_pairs(folder), archive)
    body = yaml.safe_load(SAMPLE.read_text())
    manifest = SAMPLE
    if wish.epochs or wish.size:
        training = body["spec"]["training"]
        training["epochs"] = wish.epochs or training["epochs"]
        training["imageSize"] = wish.size or training["imageSize"]
        manifest = results / "quickstart.yaml"
        manifest.write_text(yaml.safe_dump(body, sort_keys=False))
    return Plan(
        dataset=SHAPES,
        archive=archive,
        sha256=sha256,
        manifest=manifest,
        results=results,
        described=f"{shapes.COUNT} images, {len(shapes.CLASSES)} classes",
        job=body["metadata"]["name"],
        held_back=Pair(*held_back),
        ignore=None,
        copy=f"{USER}/{SHAPES}",
    )


def _all_pairs(folder: Path) -> dict[str, list[Pair]]:
    """All pairs of a folder with images/ and masks/, nothing held back."""
    images = sorted((folder / "images").iterdir())
    return {"": [Pair(path, folder / "masks" / path.name) for path in images]}
