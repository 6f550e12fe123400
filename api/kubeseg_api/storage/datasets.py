"""Data sets in the workspace: found, counted, put into place, taken away."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from kubeseg_api.errors import ConflictError
from kubeseg_api.storage import layout
from kubeseg_api.storage.files import locked, make_folder, sync_folder
from kubeseg_api.storage.incoming import Incoming
from kubeseg_api.storage.layout import IMAGES, MASKS, TRAIN, VALIDATION
from kubeseg_types import workspace


class NameClashError(ConflictError):
    """409: the name is an owner's, or its owner's name is a data set."""

    kind, title = "dataset-name-clash", "The name is taken for something else"


class ExistsError(ConflictError):
    """409: there is a data set of that name."""

    kind, title = "dataset-exists", "There is a data set of this name"


@dataclass(frozen=True)
class Info:
    """A data set: its name, and the number of image files in each part ("" for an unsplit one)."""

    name: str
    parts: dict[str, int]

    @property
    def images(self) -> int:
        """Images in all parts together."""
        return sum(self.parts.values())


def _is_dataset(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in (IMAGES, MASKS, TRAIN, VALIDATION))


def exists(root: Path, name: str) -> bool:
    """Whether there is a data set `name` (a legal one)."""
    return _is_dataset(root / workspace.dataset_dir(name))


def info(root: Path, name: str) -> Info | None:
    """The data set `name`, counted; None where there is none."""
    folder = root / workspace.dataset_dir(name)
    if not _is_dataset(folder):
        return None
    parts = {
        part.name: _count(part / IMAGES)
        for part in sorted(folder.iterdir())
        if (part / IMAGES).is_dir()
    }
    if (folder / IMAGES).is_dir() and not {TRAIN, VALIDATION} <= parts.keys():
        return Info(name, {"": _count(folder / IMAGES)})
    return Info(name, parts)


def _count(folder: Path) -> int:
    return sum(1 for entry in folder.iterdir() if layout.is_image(entry.name))


def names(root: Path) -> list[str]:
    """Names of all data sets, sorted."""
    found: list[str] = []
    for folder in _folders(root / workspace.DATASETS):
        if _is_dataset(folder):
            found.append(folder.name)
        else:
            found += [f"{folder.name}/{f.name}" for f in _folders(folder) if _is_dataset(f)]
    return sorted(found)


def _folders(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except FileNotFoundError:
        return []


def check_place(root: Path, name: str, *, replace: bool) -> None:
    """Raises NameClashError or ExistsError where a data set can't be put under `name`."""
    owner = name.rpartition("/")[0]
    if owner and _is_dataset(root / workspace.dataset_dir(owner)):
        raise NameClashError(
            f"{owner!r} is a data set itself, and can't own {name!r}; choose another owner's name"
        )
    folder = root / workspace.dataset_dir(name)
    if not folder.is_dir():
        return
    if _is_dataset(folder):
        if not replace:
            raise ExistsError(
                f"there is a data set {name!r} already; replace it with ?replace=true, or choose "
                "another name"
            )
    elif any(folder.iterdir()):
        raise NameClashError(
            f"{name!r} is a folder with other things in it, such as an owner's data sets, and "
            "can't be a data set itself; choose another name"
        )


def place(root: Path, name: str, incoming: Incoming, *, replace: bool) -> None:
    """Puts the unpacked folder of `incoming` under `name`, all at once.

    Raises NameClashError or ExistsError. Killed between its two renames, the next start puts the
    old data set back (`incoming.recover`).
    """
    with locked(root / workspace.DATASETS):
        check_place(root, name, replace=replace)
        target = root / workspace.dataset_dir(name)
        make_folder(target.parent)
        if _is_dataset(target):
            incoming.take_away(target)
        incoming.unpacked.rename(target)
        sync_folder(target.parent)
        incoming.settle()


def remove(root: Path, name: str, incoming: Incoming) -> bool:
    """Takes the data set `name` away, all at once; False where there is none."""
    with locked(root / workspace.DATASETS):
        target = root / workspace.dataset_dir(name)
        if not _is_dataset(target):
            return False
        target.rename(incoming.folder / "trash")
        owner = target.parent
        if "/" in name and not any(owner.iterdir()):
            owner.rmdir()
        sync_folder(root / workspace.DATASETS)
    shutil.rmtree(incoming.folder / "trash")
    return True
