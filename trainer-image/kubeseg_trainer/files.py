"""Writing files so that a reader sees the old or the new one, never a part."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from kubeseg_trainer.errors import storage_error

#: Temporary names begin so; what a kill left behind is recognised by it.
TEMPORARY = ".tmp-"
_CHUNK = 1 << 20


def now() -> str:
    """The time as the contract writes it: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sync_directory(path: Path) -> None:
    """Make the names in `path` last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_file(path: Path, data: bytes) -> str:
    """Put `data` at `path` atomically and durably; returns its SHA-256. StorageError where not."""
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    try:
        _write(temporary, data)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise storage_error(error, path, len(data)) from error
    return hashlib.sha256(data).hexdigest()


def write_directory(path: Path, contents: Mapping[str, bytes]) -> None:
    """Make the directory `path` with these files, all of them or none."""
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    size = sum(len(data) for data in contents.values())
    try:
        temporary.mkdir(parents=True)
        for name, data in contents.items():
            _write(temporary / name, data)
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise storage_error(error, path, size) from error


def append_line(path: Path, line: str) -> None:
    """Add one line to `path`, durably."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path, len(line) + 1) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of the file at `path`, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted write left in `folder` and directly below it."""
    for leftover in [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"*/{TEMPORARY}*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
