"""Unpacking a ZIP that a stranger sent: every name is checked first, every byte counted.

Sizes in an archive's headers are claims; the limits hold for what really comes out.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path, PurePosixPath

from kubeseg_api.errors import BadRequestError, TooLargeError
from kubeseg_api.storage.files import FOLDER_MODE, sync_folder

BLOCK = 1 << 20
#: The directory of an archive is read into memory: 200,000 entries fit in well.
MAX_DIRECTORY_BYTES = 64 << 20
MAX_DEPTH = 8
MAX_PATH = 1024
#: Images hardly shrink in a ZIP, flat masks a hundredfold at most: beyond that it is a bomb.
MAX_RATIO = 200
#: Whatever the ratio, so much may come out.
RATIO_FREE_BYTES = 64 << 20

_KNOWN_TOPS = frozenset({"images", "masks", "train", "val", "test"})
_JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE)
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class UnsafeArchiveError(BadRequestError):
    """400: an archive that wants more than to be unpacked."""

    kind, title = "unsafe-archive", "The archive is not safe to unpack"


class NotAnArchiveError(BadRequestError):
    """400: no ZIP, or a broken one."""

    kind, title = "not-a-zip", "Not a ZIP archive"


@dataclass(frozen=True)
class Limits:
    """How much may come out of an archive: bytes altogether, and files."""

    bytes: int
    files: int


class _Bounded(BufferedReader):
    """Refuses the one huge read that a forged directory could ask `zipfile` for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise TooLargeError(
                f"the archive's directory takes {size} bytes, the limit is {MAX_DIRECTORY_BYTES}: "
                "too many files for one data set"
            )
        return super().read(size)


def path_error(name: str) -> str | None:
    """Why an entry may not be called `name` (as it stands in the archive), or None."""
    if not name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has control characters in its name"
    if "\\" in name:
        return "has a backslash in its name: paths in a ZIP use '/'"
    if name.startswith("/"):
        return "is an absolute path"
    if re.match(r"^[A-Za-z]:", name):
        return "begins with a drive letter"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "leads out of the archive's folder with '..'"
    if any(part in {"", "."} for part in parts):
        return "has an empty segment or '.' in its path"
    if any(_DEVICE.match(part) for part in parts):
        return "bears the name of a device"
    try:
        encoded = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "has a name that is not Unicode"
    if len(parts) > MAX_DEPTH:
        return f"lies {len(parts)} folders deep, the limit is {MAX_DEPTH}"
    if max(encoded) > 255 or sum(encoded) + len(parts) > MAX_PATH:
        return f"has a path that is too long (255 bytes a segment, {MAX_PATH} in all)"
    return None


def kind_error(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry is not something to unpack whatever its name, or None."""
    if entry.flag_bits & 0x1:
        return "is encrypted: make the archive without a password"
    if entry.compress_type not in _METHODS:
        return "is compressed in an unusual way: use deflate, the normal ZIP compression"
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0
    if kind == stat.S_IFLNK:
        return "is a symbolic link: put the file itself in"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is a special file (device, pipe or socket)"
    return None


def is_junk(name: str) -> bool:
    """What operating systems add unasked."""
    parts = name.split("/")
    last = parts[-1]
    return "__MACOSX" in parts or last.startswith("._") or last.lower() in _JUNK_NAMES


def plan(entries: list[zipfile.ZipInfo], limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Where each file goes, as a relative path; one folder around everything is left out.

    Raises UnsafeArchiveError, which names the entry, or TooLargeError.
    """
    if len(entries) > limits.files:
        raise TooLargeError(
            f"the archive has {len(entries)} entries, the limit is {limits.files}",
            limit=limits.files,
        )
    files: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.orig_filename
        why = path_error(name) or kind_error(entry)
        if why:
            raise UnsafeArchiveError(f"entry {name[:200]!r} {why}", entry=name[:200])
        if entry.is_dir() or is_junk(name):
            continue
        if name in files:
            raise UnsafeArchiveError(f"entry {name!r} is in the archive twice", entry=name)
        files[name] = entry
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    for name in files:
        if name in folders:
            raise UnsafeArchiveError(f"entry {name!r} is a file and a folder at once", entry=name)
    return _without_top(files)


def _without_top(files: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    while files:
        tops = {name.split("/", 1)[0] for name in files}
        alone = len(tops) == 1 and all("/" in name for name in files)
        if not alone or tops & _KNOWN_TOPS:
            break
        files = {name.split("/", 1)[1]: entry for name, entry in files.items()}
    return files


def unpack(
    source: Path, target: Path, limits: Limits, check: Callable[[list[str], int], None]
) -> list[str]:
    """Unpacks the archive `source` into the new folder `target`, all of it on disk at the end.

    `check` sees the relative paths and how many bytes the archive claims to hold, before anything
    is written, and may refuse. Returns the paths.
    Raises NotAnArchiveError, UnsafeArchiveError or TooLargeError; what was written so far stays
    for the caller to remove.
    """
    try:
        with _Bounded(FileIO(source)) as raw, zipfile.ZipFile(raw) as archive:
            files = plan(archive.infolist(), limits)
            check(list(files), sum(entry.file_size for entry in files.values()))
            target.mkdir(mode=FOLDER_MODE)
            counter = _Counter(limits.bytes, source.stat().st_size)
            made = {target}
            for name, entry in files.items():
                file = target / name
                _make_parents(file.parent, made)
                _extract(archive, entry, file, counter)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise NotAnArchiveError(
            f"this is not a ZIP archive, or it is damaged ({error}); make it anew, for example "
            "with: zip -r data.zip images masks"
        ) from error
    for folder in made:
        sync_folder(folder)
    return list(files)


class _Counter:
    def __init__(self, limit: int, archive_bytes: int) -> None:
        self._limit = limit
        self._bomb = max(RATIO_FREE_BYTES, archive_bytes * MAX_RATIO)
        self._count = 0

    def add(self, size: int) -> None:
        self._count += size
        if self._count > self._limit:
            raise TooLargeError(
                f"the archive unpacks to more than {self._limit} bytes, the limit of this service "
                "(KUBESEG_MAX_UPLOAD_BYTES)",
                limit=self._limit,
            )
        if self._count > self._bomb:
            raise UnsafeArchiveError(
                f"the archive unpacks to more than {MAX_RATIO} times its own size; no images do. "
                "Repack it without compression (zip -0) if it is honest."
            )


def _make_parents(folder: Path, made: set[Path]) -> None:
    if folder not in made:
        _make_parents(folder.parent, made)
        folder.mkdir(mode=FOLDER_MODE)
        made.add(folder)


def _extract(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: Path, counter: _Counter
) -> None:
    with archive.open(entry) as packed, file.open("xb") as out:
        while block := packed.read(BLOCK):
            counter.add(len(block))
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
