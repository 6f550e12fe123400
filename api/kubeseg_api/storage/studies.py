"""Ids of studies: a folder each, made exclusively, and never taken away once given out."""

from __future__ import annotations

import json
from pathlib import Path

from kubeseg_api.storage.files import FOLDER_MODE, make_folder, sync_folder, write_atomic
from kubeseg_types import workspace

STUDY_FILE = "study.json"


def reserve(root: Path, user: str, after: int = 0) -> tuple[str, int]:
    """Reserves `<user>-<n>` for the lowest n that is above `after` and all those of this user.

    Safe against any number of callers and replicas: only one can make a folder.
    """
    folder = root / workspace.STUDIES
    make_folder(folder)
    number = max([after, *(_number(entry.name, user) for entry in folder.iterdir())]) + 1
    while True:
        study = f"{user}-{number}"
        try:
            (root / workspace.study_dir(study)).mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            number += 1
            continue
        sync_folder(folder)
        return study, number


def _number(name: str, user: str) -> int:
    head, _, tail = name.rpartition("-")
    return int(tail) if head == user and tail.isascii() and tail.isdecimal() else 0


def describe(root: Path, study: str, *, user: str, job: str, file_name: str) -> None:
    """Writes what the id stands for beside it."""
    content = {"study": study, "user": user, "job": job, "fileName": file_name}
    file = root / workspace.study_dir(study) / STUDY_FILE
    write_atomic(file, (json.dumps(content) + "\n").encode())


def release(root: Path, study: str) -> None:
    """Takes back an id that nobody was told."""
    folder = root / workspace.study_dir(study)
    (folder / STUDY_FILE).unlink(missing_ok=True)
    folder.rmdir()


def is_reserved(root: Path, study: str) -> bool:
    """Whether the id was given out. `study` may be anything a caller writes."""
    if "/" in study or "\0" in study or study in {"", ".", ".."} or len(study.encode()) > 255:
        return False
    return (root / workspace.study_dir(study) / STUDY_FILE).is_file()
