"""Writing files so that a reader sees the old or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from kubeseg_trainer.errors import storage_error

#: Temporary names begin so; what a kill left behind is recognised by it.
TEMPORARY = ".tmp-"
_CHUNK = 8 << 20

Buffer = bytes | memoryview


@dataclass(frozen=True)
class Written:
    """What is in a file: hash (hex) of what was handed over, and its length."""

    sha256: str
    bytes: int


def now() -> str:
    """The time as the contract writes it: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _nothing() -> None:
    """What is done between two chunks, or before a file takes its name, unless someone asks."""


def temporary_beside(path: Path) -> Path:
    """A name beside `path` that nobody else takes: on another node processes have our number."""
    return path.parent / f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}"


def sync_directory(path: Path) -> None:
    """Make the names in `path` last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, parts: Iterable[Buffer], between: Callable[[], None]) -> Written:
    """Write and sync. Large buffers go through without a copy, and without holding up Python's
    other threads: both the hash and the file release the interpreter lock.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for part in parts:
            for start in range(0, len(part), _CHUNK):
                chunk = part[start : start + _CHUNK]
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)
                between()
        file.flush()
        os.fsync(file.fileno())
    return Written(digest.hexdigest(), size)


def _read_back(path: Path, written: Written) -> None:
    """OSError where the file does not hold what was written."""
    with path.open("rb") as file:
        # From the volume, not from memory, where the system can do that.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if hashlib.file_digest(file, "sha256").hexdigest() != written.sha256:
            raise OSError(errno.EIO, "what was read back is not what was written", str(path))


def write_file(
    path: Path,
    content: bytes | Iterable[Buffer],
    *,
    size: int | None = None,
    read_back: bool = False,
    between: Callable[[], None] = _nothing,
    last_look: Callable[[], None] = _nothing,
) -> Written:
    """Put `content` at `path` atomically and durably. StorageError where that fails.

    `size` (bytes) is told where it fails. `read_back`: compare what is on the volume before it
    counts. `between` is called between two chunks, `last_look` before the file takes its name: what
    they raise breaks off, and leaves nothing.
    """
    temporary = temporary_beside(path)
    try:
        parts = (content,) if isinstance(content, bytes) else content
        written = _write(temporary, parts, between)
        if read_back:
            _read_back(temporary, written)
        last_look()
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if isinstance(content, bytes):
            size = len(content)
        raise storage_error(error, path, size) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return written


def write_directory(
    path: Path,
    contents: Mapping[str, Iterable[Buffer]],
    *,
    size: int | None = None,
    last: str,
    describe: Callable[[Mapping[str, Written]], bytes],
    between: Callable[[], None] = _nothing,
) -> None:
    """Make the directory `path` with these files, all of them or none, each read back; the file
    `last` holds what `describe` says of the others. StorageError, which tells `size`, where that
    fails.
    """
    temporary = temporary_beside(path)
    written: dict[str, Written] = {}
    try:
        temporary.mkdir(parents=True)
        for name, parts in contents.items():
            written[name] = _write(temporary / name, parts, between)
        written[last] = _write(temporary / last, (describe(dict(written)),), between)
        for name, one in written.items():
            _read_back(temporary / name, one)
            between()
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(error, path, size) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _append(file: FileIO, data: bytes) -> None:
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Add one line to `path`, durably: the whole of it or nothing. StorageError where not."""
    try:
        # Unbuffered: a buffer would be written once more as the file is closed.
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                _append(file, line.encode() + b"\n")
            except OSError:
                # Half a line would spoil the next one.
                os.ftruncate(file.fileno(), before)
                raise
    except OSError as error:
        raise storage_error(error, path, len(line) + 1) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a directory: that out of sight first, so that no half of it is met."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = temporary_beside(path)
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def leftovers(folder: Path) -> list[Path]:
    """What interrupted writes left in `folder` and directly below it."""
    return [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"*/{TEMPORARY}*")]
