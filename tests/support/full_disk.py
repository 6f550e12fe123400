"""A disk that has no room from a certain operation on."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

_STRETCH = 1 << 19


class FullDisk:
    """Counts what changes files below a folder: making, writing, syncing, renaming.

    Those from the `first` to the `last` fail, counted from 1. A write then writes half of it.
    Only paths with `part` in them count.
    """

    def __init__(self, folder: Path, first: int, last: int, part: str) -> None:
        self._folder = str(folder)
        self._part = part
        self._first, self._last = first, last
        self._lock = threading.Lock()
        self.count = 0

    def full(self) -> bool:
        """Count one operation: whether it is to fail."""
        with self._lock:
            self.count += 1
            return self._first <= self.count <= self._last

    def holds(self, path: Any) -> bool:
        """Whether `path` is one that counts."""
        return str(path).startswith(self._folder) and self._part in str(path)

    def check(self, path: Any) -> None:
        """Count one operation on `path`, and let it fail where it is to."""
        if self.holds(path) and self.full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class _File:
    """A file whose first write counts, and one in each half a megabyte."""

    def __init__(self, disk: FullDisk, file: Any) -> None:
        self._disk, self._file = disk, file
        self._written, self._counted = 0, -_STRETCH

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        counts = self._written >= self._counted + _STRETCH
        self._counted = self._written if counts else self._counted
        self._written += len(data)
        if counts and self._disk.full():
            self._file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        return int(self._file.write(data))


@contextmanager
def full_disk(folder: Path, first: int = 0, last: int = 0, part: str = "") -> Iterator[FullDisk]:
    """Let operations `first` to `last` below `folder`, on paths with `part`, fail with ENOSPC."""
    disk = FullDisk(folder, first, last, part)
    opened, fsync = Path.open, os.fsync

    def checked(real: Any) -> Any:
        def call(path: Any, *arguments: Any, **more: Any) -> Any:
            disk.check(path)
            return real(path, *arguments, **more)

        return call

    def open_file(path: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        if not {"w", "a"} & set(mode) or not disk.holds(path):
            return opened(path, mode, *arguments, **more)
        disk.check(path)
        return _File(disk, opened(path, mode, *arguments, **more))

    def sync(descriptor: int) -> None:
        disk.check(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_file)
        patch.setattr("os.fsync", sync)
        for name in ("rename", "replace", "mkdir"):
            patch.setattr(Path, name, checked(getattr(Path, name)))
        yield disk
