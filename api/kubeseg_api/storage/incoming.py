"""Uploads on their way: a hidden folder each, held by a lock that dies with its process.

datasets/.incoming/<id>/lock       held while the upload lasts
                        upload.zip as it comes in
                        unpacked/  becomes the data set by a rename
                        old/       the data set that is being replaced
                        target     where old/ came from, relative to the workspace
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kubeseg_api.storage.files import locked, make_folder, sync_folder, write_atomic
from kubeseg_types import workspace

log = logging.getLogger(__name__)

INCOMING = f"{workspace.DATASETS}/.incoming"
#: A folder that has no lock yet was made a moment ago, or its maker died in that moment.
LOCKLESS_SECONDS = 3600


@dataclass(frozen=True)
class Incoming:
    """The folder of one upload (or removal)."""

    root: Path
    folder: Path

    @property
    def archive(self) -> Path:
        """The uploaded file."""
        return self.folder / "upload.zip"

    @property
    def unpacked(self) -> Path:
        """What came out of it."""
        return self.folder / "unpacked"

    def take_away(self, dataset: Path) -> None:
        """Moves a data set out of its place, so that a restart could put it back."""
        relative = dataset.relative_to(self.root).as_posix()
        write_atomic(self.folder / "target", relative.encode())
        dataset.rename(self.folder / "old")

    def settle(self) -> None:
        """The new data set is in place: the old one need not come back."""
        (self.folder / "target").unlink(missing_ok=True)


@contextmanager
def incoming(root: Path) -> Iterator[Incoming]:
    """A folder for one upload; whatever is in it at the end is removed."""
    folder = root / INCOMING / secrets.token_hex(8)
    make_folder(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = Incoming(root, folder)
        try:
            yield place
        finally:
            _put_back(place)
            shutil.rmtree(folder)


def _put_back(place: Incoming) -> None:
    note, old = place.folder / "target", place.folder / "old"
    if not (note.is_file() and old.is_dir()):
        return
    target = place.root / note.read_text()
    with locked(place.root / workspace.DATASETS):
        if target.exists():
            return  # the new one is there: only its note was left
        make_folder(target.parent)
        old.rename(target)
        sync_folder(target.parent)
    log.warning("put back %s, whose replacement was interrupted", note.read_text())


def recover(root: Path) -> int:
    """Removes what uploads of dead processes left, putting back what they had taken away.

    Uploads of living ones, also on other replicas, are held by their lock. Returns how many were
    removed.
    """
    base = root / INCOMING
    folders = list(base.iterdir()) if base.is_dir() else []
    return sum(_recover_one(root, folder) for folder in folders)


def _recover_one(root: Path, folder: Path) -> bool:
    try:
        lock = (folder / "lock").open("r+")
    except FileNotFoundError:
        with suppress(FileNotFoundError):  # another replica may be cleaning up as well
            if time.time() - folder.stat().st_mtime > LOCKLESS_SECONDS:
                shutil.rmtree(folder)
                return True
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with suppress(FileNotFoundError):  # as above
            _put_back(Incoming(root, folder))
            shutil.rmtree(folder)
            return True
    return False
