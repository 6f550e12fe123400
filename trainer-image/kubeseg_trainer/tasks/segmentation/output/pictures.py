"""The pictures of an epoch: image, truth, prediction and errors side by side, with a legend."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kubeseg_trainer.engine.task import SampleKey, Samples
from kubeseg_trainer.tasks.segmentation.data.colours import NEUTRAL, WRONG
from kubeseg_trainer.tasks.segmentation.data.images import VOID, Pixels
from kubeseg_trainer.tasks.segmentation.data.split import share_of

#: Largest side of one of the four panels, in pixels.
PANEL = 256
#: The widest that a small picture is enlarged to, so that its four titles have room.
_LEAST = 128
_GAP = 4
_LINE = 18
_FONT = 12
_TITLES = ("image", "truth", "prediction", "errors")
#: Candidates looked at for each picture that is wanted, and at most.
_LOOKED_AT, _MOST_LOOKED_AT = 4, 32
#: At 85 four panels of 256 pixels take 60 to 170 KB and 10 ms; a PNG takes more, and 0.5 s.
_QUALITY = 85


def choose(
    names: Sequence[str], count: int, *, seed: int, classes_of: Callable[[int], frozenset[int]]
) -> list[int]:
    """Indices of `count` samples, sorted: a function of names, seed, and what their masks hold.

    By a hash of seed and name, so that samples added later move few of them; among the first of
    that order those that together show the most classes (`classes_of` a sample's index) go first.
    """
    order = sorted(range(len(names)), key=lambda i: (share_of(names[i], seed), names[i]))
    if len(order) <= count:
        return sorted(order)
    candidates = order[: min(max(count, _LOOKED_AT * count), _MOST_LOOKED_AT)]
    shown = {index: classes_of(index) for index in candidates}
    chosen: list[int] = []
    seen: set[int] = set()
    for _ in range(count):
        # Of equals the first in the order.
        best = max((i for i in candidates if i not in chosen), key=lambda i: len(shown[i] - seen))
        chosen.append(best)
        seen |= shown[best]
    return sorted(chosen)


def picture_names(names: Sequence[str]) -> list[str]:
    """A file name for the picture of each of these samples: their stems, made safe and unlike."""
    result: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]", "_", PurePosixPath(name).stem)[:100].lstrip(".") or "_"
        fresh, number = stem, 2
        while f"{fresh}.jpg" in result:
            fresh, number = f"{stem}-{number}", number + 1
        result.append(f"{fresh}.jpg")
    return result


def viewable(image: NDArray[np.generic]) -> Pixels:
    """An image (C × H × W, uint8 or uint16, any C) as H × W × 3 of 8 bits: the first three
    channels, or the first as grey; 16 bits are stretched from their darkest to their brightest.
    """
    planes = image[:3] if image.shape[0] >= 3 else np.repeat(image[:1], 3, axis=0)
    pixels = planes.transpose(1, 2, 0)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    wide = pixels.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    stretched = (wide - low) * (255 / max(high - low, 1.0))
    return np.asarray(stretched.round(), dtype=np.uint8)


def errors_of(image: Pixels, truth: Pixels, prediction: Pixels) -> Pixels:
    """The image in pale grey, wrong pixels red, those that are not counted neutral."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Pale, so that red and the neutral grey stand out.
    panel = np.repeat((grey // 3 + 160)[..., None], 3, axis=2).astype(np.uint8)
    counted = truth != VOID
    panel[counted & (prediction != truth)] = WRONG
    panel[~counted] = NEUTRAL
    return panel


def _scaled(pixels: Pixels, method: int) -> Pixels:
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest < _LEAST:
        factor: float = -(-_LEAST // longest)
        method = cv2.INTER_NEAREST_EXACT
    else:
        factor = min(1.0, PANEL / longest)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=method), dtype=np.uint8)


def compose(
    image: NDArray[np.generic],
    truth: Pixels,
    prediction: Pixels,
    *,
    table: Pixels,
    class_names: Sequence[str],
    caption: str,
) -> bytes:
    """A JPEG of the four panels, titles above, and a legend of the classes to be seen below.

    `image` C × H × W, uint8 or uint16; `truth` and `prediction` H × W, uint8, VOID in the truth
    where nothing counts; `table` 256 × 3.
    """
    right = int((prediction == truth).sum()) / max(1, int((truth != VOID).sum()))
    seen = viewable(image)
    labels = [label for label in range(len(class_names)) if label in truth or label in prediction]
    seen, truth, prediction = (
        _scaled(seen, cv2.INTER_AREA),
        _scaled(truth, cv2.INTER_NEAREST_EXACT),
        _scaled(prediction, cv2.INTER_NEAREST_EXACT),
    )
    panels = [seen, table[truth], table[prediction], errors_of(seen, truth, prediction)]
    height, width = seen.shape[:2]
    font = _font()
    total = 4 * width + 3 * _GAP
    legend = _legend([(class_names[i], i) for i in labels], VOID in truth, total, font)
    lines = 1 + max((line for line, *_ in legend), default=0)
    sheet = Image.new("RGB", (total, 2 * _LINE + height + lines * _LINE), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 2), f"{caption}  {right:.1%} of pixels right", "black", font)
    for number, (title, panel) in enumerate(zip(_TITLES, panels, strict=True)):
        left = number * (width + _GAP)
        draw.text((left + 2, _LINE + 2), title, "black", font)
        sheet.paste(Image.fromarray(panel), (left, 2 * _LINE))
    below = 2 * _LINE + height
    for line, x, text, entry in legend:
        top = below + line * _LINE
        draw.rectangle((x, top + 4, x + 10, top + 14), tuple(int(v) for v in table[entry]), "black")
        draw.text((x + 14, top + 2), text, "black", font)
    file = BytesIO()
    # Full colour resolution: labels are flat areas with sharp edges.
    sheet.save(file, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return file.getvalue()


def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(_FONT)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return font


def _legend(
    entries: Sequence[tuple[str, int]], void: bool, width: int, font: ImageFont.FreeTypeFont
) -> list[tuple[int, int, str, int]]:
    """(line, x, text, label) of each entry, in lines of `width` pixels."""
    placed, line, x = [], 0, 2
    for name, label in [*entries, *([("not counted", VOID)] if void else [])]:
        needed = 14 + round(font.getlength(name)) + 12
        if x + needed > width and x > 2:
            line, x = line + 1, 2
        placed.append((line, x, name, label))
        x += needed
    return placed


class Gallery:
    """The same few validation samples, drawn again and again."""

    def __init__(self, table: Pixels, class_names: Sequence[str], *, seed: int) -> None:
        self._table = table
        self._class_names = class_names
        self._seed = seed
        self._chosen: list[int] | None = None

    def draw(
        self, samples: Samples, count: int, predict: Callable[[Tensor], Pixels], caption: str
    ) -> dict[str, bytes]:
        """File name → JPEG of `count` of these samples; `predict` gives an image's labels
        (C × H × W, as it is stored → H × W).
        """
        if self._chosen is None:
            self._chosen = choose(
                samples.names,
                count,
                seed=self._seed,
                classes_of=lambda i: frozenset(np.unique(self._mask(samples, i)).tolist()) - {VOID},
            )
        names = [samples.names[i] for i in self._chosen]
        files = {}
        for index, file, name in zip(self._chosen, picture_names(names), names, strict=True):
            sample = samples[SampleKey(None, index)]
            files[file] = compose(
                np.asarray(sample["image"]),
                np.asarray(sample["mask"]),
                predict(sample["image"]),
                table=self._table,
                class_names=self._class_names,
                caption=f"{caption}  {name}",
            )
        return files

    @staticmethod
    def _mask(samples: Samples, index: int) -> Pixels:
        return np.asarray(samples[SampleKey(None, index)]["mask"])
