"""Paths, locks and atomic writes in the workspace. All of it blocks: call it in threads."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER_MODE = 0o775


def safe_parts(relative: str) -> list[str] | None:
    """Segments of a relative path, or None where it is none that could be meant honestly."""
    parts = relative.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
        return None
    return parts


def file_below(root: Path, relative: str, folder: str) -> Path | None:
    """The regular file `root/relative`, if it really lies below `root/folder`, else None.

    Symbolic links are followed and must not lead out of `folder`, nor may it be one itself.
    """
    parts = safe_parts(relative)
    if parts is None or not relative.startswith(folder.rstrip("/") + "/"):
        return None
    base = root.resolve() / folder
    try:
        found = (root / relative).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # the last: links in a circle
        return None
    except OSError as error:
        if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
            return None
        raise
    return found if found.is_relative_to(base) and found.is_file() else None


def make_folder(path: Path) -> None:
    """Makes `path` and what is missing above it, writable for the group."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Has the names in folder `path` reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes) -> None:
    """Replaces the file `path`: readers see the old content or all of the new."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder` (its file `.lock`), also against other replicas.

    The kernel frees it when a process dies, so that nothing is left locked.
    """
    make_folder(folder)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
