"""Sliding windows: a network for squares, applied to a picture of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: Logits that are kept at once, in bytes; above it a picture is done in bands.
WHOLE_BYTES = 256 << 20


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin so that they cover `length` evenly and share `overlap` of their side at
    least (but for one that covers it alone).
    """
    if length <= window:
        return [0]
    step = max(1, math.floor(window * (1 - overlap)))
    count = math.ceil((length - window) / step) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def gaussian(height: int, width: int, device: torch.device) -> Tensor:
    """How much each pixel of a window counts, height × width: most in the middle, where the
    network has seen all around it. Deviation: an eighth of the side, as in nnU-Net
    (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z).
    """

    def bell(length: int) -> Tensor:
        places = torch.arange(length, device=device, dtype=torch.float32)
        return torch.exp(-0.5 * ((places - (length - 1) / 2) / (length / 8)) ** 2)

    return bell(height)[:, None] * bell(width)


class SlidingWindow:
    """Squares of `side` pixels that share `overlap` of their side, `at_once` in a batch."""

    def __init__(self, side: int, overlap: float, at_once: int) -> None:
        self._side = side
        self._overlap = overlap
        self._at_once = at_once

    def bands(
        self, forward: Callable[[Tensor], Tensor], image: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """Logits of `image` (1 × C × H × W), from top to bottom, as (first row, 1 × K × h × W).

        `forward` gives logits (N × K × h × w) of windows (N × C × h × w). Where windows overlap,
        their logits are averaged, weighted by `gaussian`. No more is held than the logits of one
        row of windows; what takes at most WHOLE_BYTES comes in one piece.
        """
        rows = self._rows(forward, image)
        first = next(rows)
        height, width = image.shape[2:]
        if first.shape[1] * height * width * first.element_size() <= WHOLE_BYTES:
            yield 0, torch.cat([first, *rows], dim=2)
            return
        top = 0
        for band in itertools.chain([first], rows):
            yield top, band
            top += band.shape[2]

    def _rows(self, forward: Callable[[Tensor], Tensor], image: Tensor) -> Iterator[Tensor]:
        """Rows of the picture as they become final."""
        height, width = image.shape[2:]
        high, wide = min(self._side, height), min(self._side, width)
        tops = window_starts(height, high, self._overlap)
        lefts = window_starts(width, wide, self._overlap)
        weight = gaussian(high, wide, image.device)
        total: Tensor | None = None
        weights = torch.zeros(high, width, device=image.device)
        for top, following in zip(tops, [*tops[1:], height], strict=True):
            for start in range(0, len(lefts), self._at_once):
                chunk = lefts[start : start + self._at_once]
                windows = [image[:, :, top : top + high, x : x + wide] for x in chunk]
                logits = forward(torch.cat(windows)).float() * weight
                if total is None:
                    total = logits.new_zeros(1, logits.shape[1], high, width)
                for x, part in zip(chunk, logits, strict=True):
                    total[0, :, :, x : x + wide] += part
                    weights[:, x : x + wide] += weight
            assert total is not None
            done = following - top
            yield total[:, :, :done] / weights[:done]
            # The rows below are not final: they move up for the next row of windows.
            total = _moved_up(total, done, dim=2)
            weights = _moved_up(weights, done, dim=0)


def _moved_up(values: Tensor, rows: int, dim: int) -> Tensor:
    left = values.narrow(dim, rows, values.shape[dim] - rows)
    return torch.cat([left, torch.zeros_like(values.narrow(dim, 0, rows))], dim=dim)
