"""The user's own folder of images and masks: checked, and packed for the upload.

What is inside the masks is the trainer's business: it names each label that doesn't fit.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubeseg_local.demo.failure import DemoError
from kubeseg_types.names import MAX_NAME_LENGTH

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
SHOWN = 5
# A picture that was trained on proves little: with so many images one is kept from the upload.
ENOUGH_TO_HOLD_BACK = 10
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class UserData:
    """What a folder holds. `parts` maps "", or "train" and "val", to pairs in order of names."""

    folder: Path
    parts: dict[str, list[Pair]]
    held_back: Pair

    @property
    def images(self) -> int:
        """Images that are uploaded."""
        return sum(len(pairs) for pairs in self.parts.values())


def slug(name: str) -> str:
    """A DNS label made of a folder's name: "My Pictures (2)" is "my-pictures-2"."""
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_NAME_LENGTH].strip("-")
    return text if text and text not in {"images", "masks", "train", "val", "test"} else "my-data"


def _by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if path.stem in found:
            raise DemoError(f"{found[path.stem]} and {path} have the same stem: rename one")
        found[path.stem] = path
    return found


def _pairs(folder: Path) -> list[Pair]:
    images = _by_stem(folder / "images", IMAGE_SUFFIXES)
    masks = _by_stem(folder / "masks", MASK_SUFFIXES)
    if not images:
        raise DemoError(
            f"{folder / 'images'}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in it"
        )
    missing = [str(path) for stem, path in images.items() if stem not in masks]
    if missing:
        more = f" (+{len(missing) - SHOWN} more)" if len(missing) > SHOWN else ""
        raise DemoError(
            f"{len(missing)} of {len(images)} images have no mask of the same name in "
            f"{folder / 'masks'} ({', '.join(sorted(MASK_SUFFIXES))}): "
            f"{', '.join(missing[:SHOWN])}{more}"
        )
    return [Pair(path, masks[stem]) for stem, path in images.items()]


def read_folder(folder: Path) -> UserData:
    """What DATA=folder names. Raises DemoError."""
    if not folder.is_dir():
        raise DemoError(f"DATA={folder}: no such folder")

    def whole(at: Path) -> bool:
        return (at / "images").is_dir() and (at / "masks").is_dir()

    if whole(folder):
        pairs = _pairs(folder)
        if len(pairs) < 2:
            raise DemoError(f"{folder}: one image; at least 2 are needed, to train and to validate")
        if len(pairs) >= ENOUGH_TO_HOLD_BACK:
            return UserData(folder, {"": pairs[:-1]}, pairs[-1])
        return UserData(folder, {"": pairs}, pairs[-1])
    if whole(folder / "train") and whole(folder / "val"):
        parts = {part: _pairs(folder / part) for part in ("train", "val")}
        return UserData(folder, parts, parts["val"][len(parts["val"]) // 2])
    seen = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise DemoError(
        f"DATA={folder}: must hold images/ and masks/, or train/ and val/ with those inside; "
        f"there is: {seen}"
    )


def pack(parts: dict[str, list[Pair]], archive: Path) -> str:
    """Write the ZIP, the same bytes for the same files; its SHA-256 in hex."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as out:
        for part, pairs in sorted(parts.items()):
            prefix = f"{part}/" if part else ""
            for pair in pairs:
                _add(out, f"{prefix}images/{pair.image.name}", pair.image)
                _add(out, f"{prefix}masks/{pair.mask.name}", pair.mask)
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(out: zipfile.ZipFile, name: str, source: Path) -> None:
    try:
        out.writestr(zipfile.ZipInfo(name, EPOCH), source.read_bytes())
    except PermissionError:
        raise DemoError(f"{source}: no permission to read it") from None
