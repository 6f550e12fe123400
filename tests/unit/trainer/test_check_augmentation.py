"""`check --network` tries an augmentation on what the data's images are, as `train` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
from PIL import Image

from kubeseg_trainer.check_command import CheckOptions, check
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_types.exit_codes import ExitCode


def _job(workspace: Path, transform: Any, *, channels: int, bits: int) -> Path:
    """A configuration with this augmentation, beside a data set of such images."""
    for kind in ("images", "masks"):
        (workspace / "datasets/wide" / kind).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    dtype = np.uint16 if bits == 16 else np.uint8
    for index in range(4):
        image = random.integers(0, 2**bits, (32, 32, channels)).astype(dtype)
        np.save(workspace / f"datasets/wide/images/{index}.npy", image)
        mask = random.integers(0, 2, (32, 32)).astype(np.uint8)
        Image.fromarray(mask).save(workspace / f"datasets/wide/masks/{index}.png")
    whole = albumentations.to_dict(albumentations.Compose([transform]))
    config = {
        "job": "wide",
        "uid": "u-1",
        "model": {
            "architecture": "Linknet",
            "encoder": "tu-test_resnet",
            "inChannels": channels,
        },
        "dataset": {"name": "wide"},
        "training": {
            "epochs": 1,
            "imageSize": 32,
            "augmentation": {"serialized": json.dumps(whole)},
        },
    }
    file = workspace / "config.json"
    file.write_text(json.dumps(config))
    return file


@pytest.mark.parametrize(
    "transform", [albumentations.ToGray(p=0.01), albumentations.HueSaturationValue(p=0.01)]
)
def test_what_cannot_be_applied_to_the_data_is_refused(
    tmp_path: Path, transform: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job = _job(tmp_path, transform, channels=16, bits=16)
    options = CheckOptions(job, tmp_path, network=True)
    for _ in range(2):
        assert check(options, StopRequest()) == ExitCode.CONFIGURATION
        name = type(transform).__name__
        assert f"{name} can't be applied to images of 16 bits with 16 channels" in caplog.text
        caplog.clear()
    assert not list((tmp_path / "checks").glob("*.tried"))


def test_what_was_good_for_8_bits_is_tried_again_with_16(tmp_path: Path) -> None:
    transform = albumentations.ISONoise()
    outcomes = []
    for bits in (8, 16):
        job = _job(tmp_path, transform, channels=3, bits=bits)
        outcomes.append(check(CheckOptions(job, tmp_path, network=True), StopRequest()))
    tried = list((tmp_path / "checks").glob("*.tried"))
    assert outcomes == [ExitCode.SUCCESS, ExitCode.SUCCESS]
    assert len(tried) == 2
