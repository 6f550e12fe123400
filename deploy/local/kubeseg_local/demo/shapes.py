"""The demo's data set: pictures with discs, squares and triangles on noisy backgrounds.

Each class has a shape and a texture of its own. Colours only hint: those of the classes overlap,
and plain blobs and textured crosses, which are background, bear the colours of all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("background", "disc", "square", "triangle")
SEED = 7
SIZE = 144
COUNT = 96
# For viewers of the masks: red, green, blue of each label.
PALETTE = (0, 0, 0, 230, 80, 60, 60, 160, 230, 240, 200, 60)
HELD_BACK = 100_024  # index of a picture that no data set contains

Rgb = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Plane = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class Placement:
    """Where a shape lies: centre and radius in pixels, turned by `angle` (radians)."""

    x: float
    y: float
    radius: float
    angle: float

    def grid(self, size: int) -> tuple[Plane, Plane]:
        """Coordinates of each pixel in the shape's own system, where its radius is 1."""
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float64) + 0.5
        dx, dy = (columns - self.x) / self.radius, (rows - self.y) / self.radius
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return cos * dx + sin * dy, cos * dy - sin * dx


def _disc(u: Plane, v: Plane) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.hypot(u, v) < 0.92
    return inside


def _square(u: Plane, v: Plane) -> NDArray[np.bool_]:
    return np.maximum(np.abs(u), np.abs(v)) < 0.8


def _triangle(u: Plane, v: Plane) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.maximum(np.abs(u) * np.sqrt(3) / 2 - v / 2, v) < 0.62
    return inside


def _cross(u: Plane, v: Plane) -> NDArray[np.bool_]:
    a, b = np.abs(u), np.abs(v)
    return ((a < 0.3) & (b < 0.95)) | ((b < 0.3) & (a < 0.95))


def _blob(u: Plane, v: Plane) -> NDArray[np.bool_]:
    angle = np.arctan2(v, u)
    edge = 0.7 + 0.18 * np.sin(3 * angle) + 0.1 * np.sin(5 * angle + 1)
    inside: NDArray[np.bool_] = np.hypot(u, v) < edge
    return inside


def _stripes(u: Plane, v: Plane, period: float) -> Plane:
    del v
    wave: Plane = np.sign(np.sin(2 * np.pi * u / period))
    return wave


def _checks(u: Plane, v: Plane, period: float) -> Plane:
    board: Plane = np.sign(np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period))
    return board


def _dots(u: Plane, v: Plane, period: float) -> Plane:
    near = np.cos(2 * np.pi * u / period) + np.cos(2 * np.pi * v / period)
    return np.where(near > 0.7, 1.0, -1.0)


def _plain(u: Plane, v: Plane, period: float) -> Plane:
    del period
    return 0.6 * (u + v)


Shape = Callable[[Plane, Plane], NDArray[np.bool_]]
Texture = Callable[[Plane, Plane, float], Plane]
# By label; 0 is the background.
OBJECTS: dict[int, tuple[Shape, Texture]] = {
    1: (_disc, _stripes),
    2: (_square, _checks),
    3: (_triangle, _dots),
}
TEXTURES: tuple[Texture, ...] = (_stripes, _checks, _dots, _plain)
# Means of their red, green and blue; they spread by COLOUR_SPREAD, so that they overlap.
COLOURS = {1: (175.0, 95.0, 85.0), 2: (85.0, 115.0, 180.0), 3: (165.0, 165.0, 80.0)}
COLOUR_SPREAD = 22.0


def _smooth(rng: Generator, size: int, cells: int) -> Plane:
    """Noise of about `cells` bumps across, between -1 and 1, size x size."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def _background(rng: Generator, size: int) -> Plane:
    """A noisy picture without objects: size x size x 3, about 0 to 255."""
    base = rng.uniform(60, 190) + rng.uniform(-30, 30, 3)
    tint = rng.uniform(-1, 1, (3, 3))
    planes = [_smooth(rng, size, cells) for cells in (3, 7, 18)]
    picture = base + sum(
        weight * plane[..., None] * colour
        for weight, plane, colour in zip((45, 32, 24), planes, tint, strict=True)
    )
    return np.asarray(picture)


def _place(rng: Generator, size: int) -> Placement:
    radius = size * rng.uniform(0.13, 0.26)
    x, y = rng.uniform(0.06 * size, 0.94 * size, 2)
    return Placement(x, y, radius, rng.uniform(0, 2 * np.pi))


def _paint(
    rng: Generator, picture: Plane, where: Placement, look: tuple[Shape, Texture], hue: int
) -> NDArray[np.bool_]:
    """Draw into `picture`, in colours of the class `hue`; which pixels it covers."""
    shape, texture = look
    u, v = where.grid(picture.shape[0])
    covered = shape(u, v)
    colour = np.array(COLOURS[hue]) + rng.normal(0, COLOUR_SPREAD, 3)
    contrast = rng.uniform(22, 50) * rng.choice([-1, 1], 3)
    surface = colour + texture(u, v, rng.uniform(0.4, 0.62))[..., None] * contrast
    shade = 1 + 0.18 * _smooth(rng, picture.shape[0], 4)[..., None]
    picture[covered] = (surface * shade)[covered]
    return covered


def make_sample(seed: int, index: int, size: int = SIZE) -> tuple[Rgb, Labels]:
    """Picture number `index`: (size x size x 3, size x size), both uint8; labels as in CLASSES.

    Depends on its arguments alone.
    """
    rng = np.random.default_rng([seed, index])
    picture = _background(rng, size)
    labels = np.zeros((size, size), dtype=np.uint8)
    things: list[int] = [0] * int(rng.integers(1, 4)) + list(rng.integers(1, 4, rng.integers(3, 6)))
    rng.shuffle(things)
    for label in things:
        where = _place(rng, size)
        hue = int(label) or int(rng.integers(1, 4))
        if label:
            look = OBJECTS[int(label)]
        else:
            # A textured cross is the hard case: its texture alone would say "object".
            look = _blob, _plain
            if rng.random() < 0.3:
                look = _cross, TEXTURES[int(rng.integers(len(TEXTURES)))]
        labels[_paint(rng, picture, where, look, hue)] = label
    picture += rng.normal(0, rng.uniform(6, 14), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), labels


def write_sample(folder: Path, name: str, index: int, seed: int = SEED) -> tuple[Path, Path]:
    """Write one sample as images/<name> and masks/<name> (a palette PNG); both paths."""
    image, mask = folder / "images" / name, folder / "masks" / name
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture, labels = make_sample(seed, index)
    Image.fromarray(picture).save(image)
    painted = Image.fromarray(labels)
    painted.putpalette(bytes(PALETTE))
    painted.save(mask)
    return image, mask


def write_dataset(folder: Path, count: int = COUNT, seed: int = SEED) -> None:
    """Write the samples 0 to `count` - 1 as images/shape-000.png and so on, with their masks."""
    for index in range(count):
        write_sample(folder, f"shape-{index:03d}.png", index, seed)
