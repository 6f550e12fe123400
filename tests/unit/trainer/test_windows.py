from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kubeseg_trainer.tasks.segmentation.data.crops import random_crop
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.network import windows
from kubeseg_trainer.tasks.segmentation.network.windows import (
    SlidingWindow,
    gaussian,
    window_starts,
)
from tests.support.datasets import make_pair


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 65, 100, 257])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_windows_cover_everything_and_overlap_enough(length: int, overlap: float) -> None:
    starts = window_starts(length, 32, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        assert 0 <= start <= max(0, length - 32)
        covered[start : start + 32] += 1
    assert covered.min() >= 1
    steps = np.diff(starts)
    assert (steps > 0).all()
    if len(steps):
        assert steps.max() <= math.floor(32 * (1 - overlap))
        # Evenly: none of the windows is there for a few pixels only.
        assert steps.max() - steps.min() <= 1


def test_the_middle_of_a_window_counts_most() -> None:
    weight = gaussian(32, 16, torch.device("cpu"))
    assert weight.shape == (32, 16)
    assert float(weight.min()) > 0
    assert float(weight[15, 7]) == pytest.approx(float(weight.max()))
    assert torch.equal(weight, weight.flip(0, 1))


def _whole(image: Tensor, forward: Callable[[Tensor], Tensor], sliding: SlidingWindow) -> Tensor:
    return torch.cat([logits for _, logits in sliding.bands(forward, image)], dim=2)


@pytest.mark.parametrize("size", [(32, 32), (20, 90), (70, 33), (97, 131), (8, 8)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("limit", [0, 1 << 20], ids=["in bands", "in one piece"])
def test_without_a_receptive_field_it_equals_one_pass(
    size: tuple[int, int], overlap: float, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WHOLE_BYTES", limit)
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 1)
    image = torch.rand(1, 3, *size)
    shapes: set[tuple[int, ...]] = set()

    def forward(images: Tensor) -> Tensor:
        shapes.add(tuple(images.shape))
        result: Tensor = layer(images)
        return result

    with torch.inference_mode():
        bands = list(SlidingWindow(32, overlap, 3).bands(forward, image))
        plain = layer(image)
    assert [top for top, _ in bands] == list(
        np.cumsum([0] + [band.shape[2] for _, band in bands[:-1]])
    )
    assert torch.allclose(torch.cat([band for _, band in bands], dim=2), plain, atol=1e-5)
    assert max(shape[0] for shape in shapes) <= 3
    assert {shape[2:] for shape in shapes} == {(min(32, size[0]), min(32, size[1]))}
    assert (len(bands) == 1) == (limit > 0 or size[0] <= 32)


def test_the_better_informed_window_decides() -> None:
    """Where two windows overlap, a pixel in the middle of one outweighs the other's border."""

    def forward(images: Tensor) -> Tensor:
        # Each window says how far to its left the pixel is.
        return torch.arange(images.shape[3]).float().expand(len(images), 1, *images.shape[2:])

    logits = _whole(torch.zeros(1, 3, 32, 48), forward, SlidingWindow(32, 0.5, 2))
    # Column 17 is 17 of the first window (its middle), and 1 of the second (its border).
    assert float(logits[0, 0, 16, 17]) == pytest.approx(17, abs=0.1)


def test_a_crop_is_a_function_of_its_key() -> None:
    image, mask = make_pair((90, 70), 1)

    def at(epoch: int, index: int, seed: int = 3) -> np.ndarray:
        return random_crop(image, mask, 32, seed=seed, epoch=epoch, index=index)[0]

    assert np.array_equal(at(1, 2), at(1, 2))
    others = [at(1, 2), at(2, 2), at(1, 3), at(1, 2, seed=4)]
    assert len({pixels.tobytes() for pixels in others}) == 4
    assert {pixels.shape for pixels in others} == {(32, 32, 3)}


def test_crops_reach_every_corner() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = np.zeros((3, 4, 3), np.uint8)
    corners = {
        int(random_crop(image, mask, 2, seed=0, epoch=1, index=index)[1][0, 0])
        for index in range(200)
    }
    assert corners == {0, 1, 2, 4, 5, 6}


@pytest.mark.parametrize("size", [(20, 50), (50, 20), (11, 8)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_smaller_picture_gets_a_border_that_does_not_count(
    size: tuple[int, int], kind: type
) -> None:
    image, mask = make_pair(size, 1)
    image = image.astype(kind)
    pixels, labels = random_crop(image, mask, 32, seed=0, epoch=1, index=0)
    assert (pixels.shape, labels.shape) == ((32, 32, 3), (32, 32))
    assert pixels.dtype == np.dtype(kind)
    assert labels.dtype == np.dtype(np.uint8)
    width, height = size
    assert int((labels != VOID).sum()) == min(32, width) * min(32, height)
