"""Lays out a run's folder as docs/interfaces.md says, with real (tiny) safetensors files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from kubeseg_types import workspace
from kubeseg_types.trainer import EpochRecord, Part, RunRecord, WeightsFile

START = "2026-01-01T00:00:00Z"


def weights(epoch: int) -> bytes:
    """A safetensors file that tells its epoch."""
    tensors = {"head.weight": np.full((2, 3), epoch, np.float32), "head.bias": np.zeros(2, "f4")}
    return save(tensors, {"architecture": "Unet", "epoch": str(epoch)})


def part(value: float) -> Part:
    return Part(
        loss=1 - value, dice=value, iou=value / 2, samples=4, class_dice=[value, None],
        class_iou=[value, None],
    )  # fmt: skip


def write_run(
    root: Path,
    job: str,
    uid: str,
    epochs: int,
    *,
    attempt: int = 1,
    start: int = 1,
    since: int = 1,
    started: str = START,
    state: str = "Running",
) -> list[str]:
    """A start that trained epochs `since` to `epochs`, its history going back to epoch 1 in the
    folders of an earlier attempt where `since` is above 1. Returns the weights' paths by epoch.
    """
    run = workspace.run_dir(job, uid)
    here = f"{run}/{workspace.ATTEMPTS}/{workspace.attempt_name(attempt, start)}"
    before = f"{run}/{workspace.ATTEMPTS}/{workspace.attempt_name(attempt - 1, 1)}"
    lines, paths = [], []
    for epoch in range(1, epochs + 1):
        folder = here if epoch >= since else before
        path = f"{folder}/{workspace.epoch_file(epoch)}"
        content = weights(epoch)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        paths.append(path)
        record = EpochRecord(
            epoch=epoch,
            step=epoch * 10,
            train=part(0.5 + epoch / 1000),
            validation=part(0.4 + epoch / 1000),
            learning_rate=0.001,
            seconds=1.0,
            samples_per_second=8.0,
            time=START,
            attempt=attempt,
            start=start,
            weights=WeightsFile(
                path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
            ),
        )
        lines.append(json.dumps(record.to_dict()))
    (root / here).mkdir(parents=True, exist_ok=True)
    metrics = f"{here}/{workspace.METRICS_FILE}"
    if lines:
        (root / metrics).write_text("\n".join(lines) + "\n")
    record_of_run = RunRecord(
        namespace="team",
        job=job,
        uid=uid,
        generation=1,
        attempt=attempt,
        start=start,
        state=state,
        config={},
        epoch=epochs,
        metrics_file=metrics,
        started=started,
        updated=started,
    )
    (root / run / workspace.RUN_FILE).write_text(json.dumps(record_of_run.to_dict()))
    return paths


def make_zip(entries: dict[str, bytes]) -> bytes:
    """A ZIP with these files."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def dataset_zip(images: int = 3, prefix: str = "") -> bytes:
    """A ZIP laid out as a data set; what is in its files doesn't matter to a facade."""
    entries = {f"{prefix}images/{n:03d}.jpg": f"image {n}".encode() for n in range(images)}
    entries |= {f"{prefix}masks/{n:03d}.png": f"mask {n}".encode() for n in range(images)}
    return make_zip(entries)


def write_dataset(root: Path, name: str, images: int = 3) -> None:
    """A data set in place."""
    for n in range(images):
        for kind in ("images/{:03d}.jpg", "masks/{:03d}.png"):
            file = root / workspace.dataset_dir(name) / kind.format(n)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
