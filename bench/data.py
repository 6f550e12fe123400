"""Data to measure on: a folder with train/ and val/, or the demo's shapes, drawn here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Data:
    """A data set with its own split, and what a plain script has to be told about it."""

    folder: Path
    classes: int
    void: int | None
    name: str


def draw_shapes(folder: Path, *, train: int, val: int, side: int) -> None:
    """The demo's pictures, `side` pixels wide."""
    from PIL import Image

    from kubeseg_local.demo.shapes import SEED, make_sample

    number = 0
    for part, count in (("train", train), ("val", val)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for _ in range(count):
            image, mask = make_sample(SEED, number, side)
            Image.fromarray(image).save(folder / part / "images" / f"{number:05d}.png")
            Image.fromarray(mask).save(folder / part / "masks" / f"{number:05d}.png")
            number += 1


def count_classes(folder: Path, void: int | None) -> int:
    """One more than the highest label of the validation masks that is not void."""
    import numpy as np
    from PIL import Image

    highest = 0
    for path in (folder / "val" / "masks").iterdir():
        labels = np.unique(np.asarray(Image.open(path)))
        highest = max(highest, *(int(label) for label in labels if label != void))
    return highest + 1


@contextlib.contextmanager
def data_for(folder: Path | None, void: int | None) -> Iterator[Data]:
    """The data set at `folder`; without one, 128 + 32 shapes of 256 pixels, drawn anew."""
    if folder is not None:
        for part in ("train", "val"):
            if not (folder / part / "images").is_dir():
                raise SystemExit(f"--data {folder}: must hold {part}/images and {part}/masks")
        yield Data(folder.resolve(), count_classes(folder, void), void, folder.name)
        return
    with tempfile.TemporaryDirectory(prefix="kubeseg-bench-") as made:
        draw_shapes(Path(made), train=128, val=32, side=256)
        yield Data(Path(made), 4, None, "shapes")
