"""Images of 1 to 16 channels, 8 and 16 bits, from every kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.images import (
    UnreadableError,
    channel_problem,
    check_image,
    read_image,
)


def _pixels(channels: int, dtype: Any) -> Any:
    random = np.random.default_rng(3)
    return random.integers(0, np.iinfo(dtype).max, (20, 30, channels), dtype, endpoint=True)


def _write(path: Path, pixels: Any, how: str) -> None:
    contiguous = {"photometric": "minisblack", "planarconfig": "contig"}
    if how == "npy":
        np.save(path, pixels)
    elif how == "npy first":
        np.save(path, pixels.transpose(2, 0, 1))
    elif how == "pages":
        tifffile.imwrite(path, pixels.transpose(2, 0, 1), photometric="minisblack")
    elif how == "separate":
        planes = pixels.transpose(2, 0, 1)
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
    elif how == "deflate":
        tifffile.imwrite(path, pixels, compression="zlib", **contiguous)  # type: ignore[arg-type]
    elif how == "lzw":
        tifffile.imwrite(path, pixels, compression="lzw", **contiguous)  # type: ignore[arg-type]
    elif how == "png":
        order = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[pixels.shape[2]]
        cv2.imwrite(str(path), pixels if order is None else cv2.cvtColor(pixels, order))
    else:
        tifffile.imwrite(path, pixels, **contiguous)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("how", "channels"),
    [
        ("png", 1),
        ("png", 3),
        ("png", 4),
        ("contiguous", 2),
        ("contiguous", 4),
        ("contiguous", 16),
        ("separate", 5),
        ("pages", 6),
        ("deflate", 7),
        ("lzw", 5),
        ("npy", 9),
        ("npy first", 4),
    ],
)
def test_every_channel_comes_as_it_was_written(
    tmp_path: Path, how: str, channels: int, dtype: Any
) -> None:
    suffix = {"png": "png", "npy": "npy", "npy first": "npy"}.get(how, "tif")
    path, pixels = tmp_path / f"a.{suffix}", _pixels(channels, dtype)
    _write(path, pixels, how)
    facts = check_image(path)
    bits = 8 * np.dtype(dtype).itemsize
    assert (facts.width, facts.height, facts.channels, facts.bits) == (30, 20, channels, bits)
    assert channel_problem(facts, channels) is None
    read = read_image(path, channels, bits)
    assert read.dtype == dtype
    assert np.array_equal(read, pixels)


def test_bits_are_converted_over_the_full_range(tmp_path: Path) -> None:
    _write(tmp_path / "a.png", _pixels(3, np.uint8), "png")
    narrow, wide = read_image(tmp_path / "a.png", 3, 8), read_image(tmp_path / "a.png", 3, 16)
    assert np.array_equal(wide, narrow.astype(np.uint16) * 257)
    _write(tmp_path / "b.npy", _pixels(5, np.uint16), "npy")
    assert read_image(tmp_path / "b.npy", 5, 8).dtype == np.uint8


@pytest.mark.parametrize(
    ("mode", "wanted", "fits"),
    [
        ("L", 3, True),
        ("RGB", 1, True),
        ("RGBA", 3, True),
        ("LA", 3, True),
        ("P", 3, True),
        ("RGBA", 4, True),
        ("RGB", 4, False),
        ("L", 5, False),
        ("RGB", 2, False),
    ],
)
def test_pictures_become_one_another_and_nothing_else(
    tmp_path: Path, mode: str, wanted: int, fits: bool
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 3), (200, 100, 50)).convert(mode).save(path)
    problem = channel_problem(check_image(path), wanted)
    assert (problem is None) == fits
    if fits:
        assert read_image(path, wanted).shape == (3, 4, wanted)
    else:
        assert problem is not None
        assert f"spec.model.inChannels is {wanted}" in problem
        with pytest.raises(DatasetError, match=r"a\.png has"):
            read_image(path, wanted)


def test_a_fourth_channel_that_is_no_alpha_is_not_dropped(tmp_path: Path) -> None:
    pixels = _pixels(4, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert channel_problem(check_image(tmp_path / "a.tif"), 3) is not None
    assert channel_problem(check_image(tmp_path / "b.tif"), 3) is None
    assert np.array_equal(read_image(tmp_path / "a.tif", 4), pixels)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), "holds float32, not 8 or 16 bits"),
        (np.zeros((20, 30, 17), np.uint8), "has 17 channels, at most 16"),
        (np.zeros((2, 4, 4, 3), np.uint8), "has the shape"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, pixels: Any, sentence: str) -> None:
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(UnreadableError, match=sentence):
        check_image(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.png", "a.jpg", "a.bmp", "a.webp"])
def test_files_that_are_cut_off(tmp_path: Path, name: str) -> None:
    path, pixels = tmp_path / name, _pixels(3, np.uint8)
    if path.suffix in (".tif", ".npy"):
        _write(path, pixels, "npy" if path.suffix == ".npy" else "contiguous")
    else:
        Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UnreadableError, match="can't be read"):
        check_image(path)
