"""What the demo leaves: the model, checked, and a picture of what it sees."""

from __future__ import annotations

import colorsys
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kubeseg_local.demo.dataset import Pair
from kubeseg_local.demo.failure import DemoError

Labels = NDArray[np.uint8]
PANEL = 384
GAP = 12
MAX_HEADER = 100 * 2**20
# Colours for the first labels; the rest are spread over the circle of hues.
FIRST = (
    (32, 34, 38),
    (232, 93, 64),
    (64, 156, 232),
    (242, 201, 76),
    (96, 108, 118),
    (62, 160, 85),
    (165, 94, 206),
    (70, 200, 196),
    (240, 150, 200),
    (150, 98, 58),
    (178, 222, 90),
    (44, 78, 168),
)
VOID = (255, 255, 255)
BACKGROUND, INK = (250, 250, 248), (40, 42, 46)


def read_header(weights: Path) -> dict[str, str]:
    """Metadata of a safetensors file. Raises DemoError where it is none."""
    with weights.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= MAX_HEADER:
            raise DemoError(f"{weights} is no safetensors file: its header has {length} bytes")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise DemoError(f"{weights} is no safetensors file: {error}") from error
    metadata = header.get("__metadata__", {})
    return {str(key): str(value) for key, value in metadata.items()}


def class_names(weights: Path) -> list[str]:
    """Names of the classes by label. Raises DemoError where the header has none."""
    try:
        return [str(name) for name in json.loads(read_header(weights)["classes"])]
    except (KeyError, ValueError) as error:
        raise DemoError(f"{weights}: its header names no classes: {error}") from error


def predict(weights: Path, image: Path, folder: Path) -> Labels:
    """Labels that the model gives an image: height x width. Raises DemoError."""
    program = Path(sys.executable).with_name("kubeseg-trainer")
    options = ["--out", str(folder), "--existing", "overwrite"]
    done = subprocess.run(
        [str(program), "predict", str(weights), str(image), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"kubeseg-trainer predict: {(done.stderr or done.stdout).strip()[-800:]}")
    return np.asarray(Image.open(folder / f"{image.stem}.png"), dtype=np.uint8)


def palette(classes: int) -> NDArray[np.uint8]:
    """Colours by label, 256 x 3; labels beyond the classes are white."""
    colours = np.full((256, 3), VOID, dtype=np.uint8)
    for label in range(classes):
        if label < len(FIRST):
            colours[label] = FIRST[label]
            continue
        # Neighbours on the circle differ by the golden ratio, and rows by brightness.
        hue, value = (0.13 + 0.618034 * label) % 1, (0.95, 0.7)[label % 2]
        colours[label] = [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, value)]
    return colours


def iou_by_class(truth: Labels, found: Labels, classes: int, ignore: int | None) -> list[float]:
    """IoU of each class in one picture; nan where it is in neither."""
    counted = truth != ignore if ignore is not None else np.ones(truth.shape, dtype=bool)
    scores = []
    for label in range(classes):
        a, b = (truth == label) & counted, (found == label) & counted
        union = int((a | b).sum())
        scores.append(int((a & b).sum()) / union if union else float("nan"))
    return scores


def draw(pair: Pair, found: Labels, names: list[str], ignore: int | None, target: Path) -> float:
    """Write image | truth | prediction with a legend to `target`; the picture's mean IoU."""
    image = Image.open(pair.image).convert("RGB")
    truth = np.asarray(Image.open(pair.mask), dtype=np.uint8)
    colours = palette(len(names))
    if ignore is not None:
        colours[ignore] = VOID
    scale = PANEL / max(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    scores = iou_by_class(truth, found, len(names), ignore)
    mean = float(np.nanmean(scores))
    panels = [
        ("image", image.resize((width, height), Image.Resampling.LANCZOS)),
        ("truth", Image.fromarray(colours[truth]).resize((width, height), 0)),
        (
            f"prediction   IoU {mean:.2f}",
            Image.fromarray(colours[found]).resize((width, height), 0),
        ),
    ]
    shown = [label for label in range(len(names)) if not np.isnan(scores[label])]
    entries = [(names[label], f"{scores[label]:.2f}", colours[label]) for label in shown]
    if ignore is not None and bool((truth == ignore).any()):
        entries.append(("void", "not counted", colours[ignore]))
    columns = 4
    rows = -(-len(entries) // columns)
    sheet = Image.new("RGB", (3 * width + 4 * GAP, 34 + height + GAP + 24 * rows + GAP), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for place, (title, panel) in enumerate(panels):
        left = GAP + place * (width + GAP)
        pen.text((left, 9), title, INK, font)
        sheet.paste(panel, (left, 34))
    for place, (name, score, colour) in enumerate(entries):
        left = GAP + place % columns * (sheet.width - 2 * GAP) // columns
        top = 34 + height + GAP + 24 * (place // columns)
        pen.rectangle((left, top, left + 18, top + 16), tuple(map(int, colour)), INK)
        pen.text((left + 26, top - 1), f"{name}  {score}", INK, font)
    partial = target.with_name(target.name + ".part")
    sheet.save(partial, "PNG")
    partial.replace(target)
    return mean
