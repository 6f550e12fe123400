"""The model's header, and the picture of what it sees."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kubeseg_local.demo.dataset import Pair
from kubeseg_local.demo.failure import DemoError
from kubeseg_local.demo.result import class_names, draw, iou_by_class, palette, read_header


def weights(path: Path, metadata: dict[str, str]) -> Path:
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_header(tmp_path: Path) -> None:
    file = weights(tmp_path / "m", {"epoch": "3", "classes": '["sky", "tree"]'})
    assert read_header(file)["epoch"] == "3"
    assert class_names(file) == ["sky", "tree"]


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"<html>not found</html>", struct.pack("<Q", 4) + b"nope"]
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m"
    file.write_bytes(content)
    with pytest.raises(DemoError, match="is no safetensors file"):
        read_header(file)


def test_a_header_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="names no classes"):
        class_names(weights(tmp_path / "m", {}))


@pytest.mark.parametrize(
    ("ignore", "expected"), [(None, [1 / 3, 1 / 3, np.nan]), (1, [1 / 2, 0.0, np.nan])]
)
def test_iou_counts_what_is_not_void(ignore: int | None, expected: list[float]) -> None:
    truth = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    found = np.array([[0, 0], [1, 1]], dtype=np.uint8)
    assert np.allclose(iou_by_class(truth, found, 3, ignore), expected, equal_nan=True)


def test_colours_differ() -> None:
    colours = palette(40)
    assert len({tuple(colour) for colour in colours[:40]}) == 40


def test_picture(tmp_path: Path) -> None:
    labels = np.zeros((20, 40), dtype=np.uint8)
    labels[:, 20:] = 1
    labels[:5] = 11
    Image.fromarray(np.zeros((20, 40, 3), dtype=np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(labels).save(tmp_path / "m.png")
    found = np.where(labels == 11, 0, labels).astype(np.uint8)
    pair = Pair(tmp_path / "i.png", tmp_path / "m.png")
    iou = draw(pair, found, ["sky", "tree"], 11, tmp_path / "out.png")
    assert iou == 1.0
    sheet = np.asarray(Image.open(tmp_path / "out.png"))
    shown = {tuple(colour) for colour in sheet.reshape(-1, 3)}
    assert {tuple(colour) for colour in palette(2)[:2]} <= shown
    assert (255, 255, 255) in shown  # void
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.png", "m.png", "out.png"]
