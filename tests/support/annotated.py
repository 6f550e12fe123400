"""One tiny data set, written in each of the annotation formats: two rectangles an image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

#: Width and height; columns and rows of the large and the small rectangle, which overlap.
SIZE = (40, 30)
CAT = (4, 4, 24, 20)
DOG = (12, 8, 20, 16)
NAMES = ["cat", "dog"]


def truth() -> np.ndarray:
    """Labels, H × W: the smaller object lies on top."""
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for label, (left, top, right, bottom) in ((1, CAT), (2, DOG)):
        mask[top:bottom, left:right] = label
    return mask


def corners(box: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """The corners of a rectangle, one after the other."""
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def write_images(folder: Path, count: int, suffix: str = ".png", seed: int = 0) -> list[str]:
    """`count` different pictures in `folder`; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    names = [f"{seed}-{index}{suffix}" for index in range(count)]
    for name in names:
        pixels = random.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def _coco_document(names: list[str], shape: Callable[[tuple[int, int, int, int]], object]) -> str:
    images = [
        {"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
        for i, name in enumerate(names)
    ]
    annotations = [
        {
            "id": 10 * image["id"] + category,  # type: ignore[operator]
            "image_id": image["id"],
            "category_id": category,
            "segmentation": shape(box),
            "area": (box[2] - box[0]) * (box[3] - box[1]),
            "iscrowd": 0,
        }
        for image in images
        # The smaller first: the order in the file doesn't matter.
        for category, box in ((9, DOG), (5, CAT))
    ]
    categories = [{"id": 9, "name": "dog"}, {"id": 5, "name": "cat"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def polygons(box: tuple[int, int, int, int]) -> object:
    """A rectangle as COCO's polygons."""
    return [[number for corner in corners(box) for number in corner]]


def run_lengths(box: tuple[int, int, int, int]) -> object:
    """A rectangle as COCO's uncompressed run lengths, by column."""
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    flat = mask.reshape(-1, order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges, [len(flat)]]))
    return {"size": [SIZE[1], SIZE[0]], "counts": [int(count) for count in counts]}


def compressed(box: tuple[int, int, int, int]) -> object:
    """A rectangle as COCO's compressed run lengths."""
    packed = coco_mask.frPyObjects(run_lengths(box), SIZE[1], SIZE[0])
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def write_coco(root: Path, shape: Callable[[tuple[int, int, int, int]], object] = polygons) -> None:
    """annotations/instances_*.json with images/."""
    for seed, part in enumerate(("train", "val")):
        names = write_images(root / "images", 3, seed=seed)
        (root / "annotations").mkdir(exist_ok=True)
        file = root / "annotations" / f"instances_{part}2017.json"
        file.write_text(_coco_document(names, shape))


def write_yolo(root: Path) -> None:
    """Ultralytics' layout; the last image of each part has no label file."""
    for seed, part in enumerate(("train", "val")):
        names = write_images(root / "images" / part, 4, seed=seed)
        labels = root / "labels" / part
        labels.mkdir(parents=True)
        for name in names[:-1]:
            lines = []
            for number, box in ((1, DOG), (0, CAT)):
                points = [f"{x / SIZE[0]} {y / SIZE[1]}" for x, y in corners(box)]
                lines.append(f"{number} {' '.join(points)}")
            (labels / f"{Path(name).stem}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text(
        "path: /content/datasets/pets\ntrain: images/train\nval: images/val\n"
        "names: {0: cat, 1: dog}\n"
    )


def write_cvat(root: Path) -> None:
    """CVAT for images, with a task in its head; the dog's z-order puts it on top."""
    names = write_images(root / "images", 6)
    labels = "".join(
        f"<label><name>{name}</name><attributes></attributes></label>" for name in NAMES
    )
    images = ""
    for number, name in enumerate(names):
        shapes = ""
        for label, box, order in (("dog", DOG, 1), ("cat", CAT, 0)):
            points = ";".join(f"{x},{y}" for x, y in corners(box))
            shapes += f'<polygon label="{label}" occluded="0" points="{points}" z_order="{order}"/>'
        shapes += '<box label="dog" occluded="0" xtl="1" ytl="1" xbr="3" ybr="3" z_order="0"/>'
        images += (
            f'<image id="{number}" name="{name}" width="{SIZE[0]}" height="{SIZE[1]}">'
            f"{shapes}</image>"
        )
    (root / "annotations.xml").write_text(
        f"<?xml version='1.0'?><annotations><version>1.1</version><meta><task><id>1</id>"
        f"<labels>{labels}</labels></task></meta>{images}</annotations>"
    )


def write_voc(root: Path) -> None:
    """SegmentationClass in the colours of labelmap.txt, as CVAT exports it."""
    colors = {"background": (0, 0, 0), "cat": (200, 0, 0), "dog": (0, 200, 0)}
    mask = truth()
    painted = np.array(list(colors.values()), np.uint8)[mask]
    (root / "labelmap.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "labelmap.txt").write_text(
        "".join(f"{name}:{','.join(map(str, color))}::\n" for name, color in colors.items())
    )
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    for seed, part in enumerate(("train", "val")):
        names = write_images(root / "JPEGImages", 3, ".jpg", seed=seed)
        stems = [Path(name).stem for name in names]
        (lists / f"{part}.txt").write_text("\n".join(stems) + "\n")
        for stem in stems:
            Image.fromarray(painted).save(root / "SegmentationClass" / f"{stem}.png")
