"""The format of a cache file: decoded pictures one after the other, behind a checked index.

    0     magic, count of pictures, length of the file, SHA-256 of these, the key and the index
    4096  index, int64: for each picture offset of image and mask, height, width, CRC-32 of both
    …     pictures: H × W × channels of the image (uint8 or uint16), H × W of the mask (uint8)

Opening checks all but the pictures: length and index. A picture's own checksum is looked at when
a process meets it for the first time; what changes after that is not found.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubeseg_trainer.tasks.segmentation.data.images import Pixels

MAGIC = b"kubeseg pixels 1"
_FIXED = struct.Struct("<16sQQ")
_DIGEST = 32
_INDEX_AT = 4096
_ALIGN = 64
_COLUMNS = 5
#: A file system that can't reserve space.
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class DamagedError(Exception):
    """A cache file that isn't what it should be; the text says why."""


def _digest(fixed: bytes, key: str, index: bytes) -> bytes:
    return hashlib.sha256(fixed + key.encode() + index).digest()


def _write_at(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


class CacheWriter:
    """Fills a file with pictures of known sizes; `put` may be called from several threads."""

    def __init__(
        self, file: int, sizes: Sequence[tuple[int, int]], *, channels: int, bits: int
    ) -> None:
        self._file = file
        self._channels = channels
        self._dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
        self._index = np.zeros((len(sizes), _COLUMNS), np.int64)
        position = _INDEX_AT + self._index.nbytes
        for number, (height, width) in enumerate(sizes):
            image_at = -(-position // _ALIGN) * _ALIGN
            mask_at = image_at + height * width * channels * self._dtype.itemsize
            self._index[number, :4] = image_at, mask_at, height, width
            position = mask_at + height * width
        #: Of the whole file.
        self.bytes = position

    def reserve(self) -> None:
        """Take the room on the disk; OSError where there isn't enough."""
        os.ftruncate(self._file, 0)
        try:
            os.posix_fallocate(self._file, 0, self.bytes)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise

    def note(self, text: str) -> None:
        """Leave a line (under 4096 bytes) for those who wait for this file."""
        _write_at(self._file, memoryview(text.encode().ljust(64)), 0)

    def put(self, number: int, image: NDArray[Any], mask: Pixels) -> None:
        """Write one picture; OSError where it can't be, DamagedError where its size is another."""
        image_at, mask_at, height, width, _ = (int(value) for value in self._index[number])
        wanted = (height, width, self._channels)
        if image.shape != wanted or mask.shape != wanted[:2] or image.dtype != self._dtype:
            raise DamagedError(f"picture {number} is {image.shape} {image.dtype}, not {wanted}")
        pixels = np.ascontiguousarray(image).reshape(-1).view(np.uint8).data
        labels = np.ascontiguousarray(mask).reshape(-1).data
        _write_at(self._file, pixels, image_at)
        _write_at(self._file, labels, mask_at)
        self._index[number, 4] = zlib.crc32(labels, zlib.crc32(pixels))

    def finish(self, key: str) -> None:
        """Write what makes the file a whole one, durably."""
        index = self._index.tobytes()
        fixed = _FIXED.pack(MAGIC, len(self._index), self.bytes)
        os.ftruncate(self._file, self.bytes)
        _write_at(self._file, memoryview(index), _INDEX_AT)
        # The pictures first: the header must not reach the disk before them.
        os.fsync(self._file)
        _write_at(self._file, memoryview(fixed + _digest(fixed, key, index)), 0)
        os.fsync(self._file)


def read_note(path: Path) -> str:
    """The line that the writer of the file at `path` left last; "" where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(64).strip(b" \0").decode("ascii", "replace")
    except OSError:
        return ""


class CacheFile:
    """A whole cache file, mapped into memory; kept from being evicted while it is open."""

    def __init__(self, path: Path, key: str, *, channels: int, bits: int) -> None:
        self._channels = channels
        self._dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
        self._file = path.open("rb")
        try:
            with contextlib.suppress(BlockingIOError):
                # The one who evicts asks for it exclusively, and lets go at once.
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._index = self._read_index(key)
            self._map = np.memmap(self._file, np.uint8, "r")
        except BaseException:
            self._file.close()
            raise
        self._seen = np.zeros(len(self._index), bool)

    def __len__(self) -> int:
        return len(self._index)

    def _read_index(self, key: str) -> NDArray[np.int64]:
        length = os.fstat(self._file.fileno()).st_size
        fixed = self._file.read(_FIXED.size)
        digest = self._file.read(_DIGEST)
        if len(digest) < _DIGEST:
            raise DamagedError(f"it has only {length} bytes")
        magic, count, expected = _FIXED.unpack(fixed)
        if magic != MAGIC:
            raise DamagedError("it doesn't begin as a cache does")
        if length != expected or _INDEX_AT + count * _COLUMNS * 8 > length:
            raise DamagedError(f"it has {length:,} bytes, not {expected:,}")
        self._file.seek(_INDEX_AT)
        index = self._file.read(count * _COLUMNS * 8)
        if _digest(fixed, key, index) != digest:
            raise DamagedError("its index doesn't match its checksum")
        return np.frombuffer(index, np.int64).reshape(count, _COLUMNS)

    def read(self, number: int) -> tuple[NDArray[Any], Pixels]:
        """Image (H × W × channels) and mask (H × W) of a picture: views that can't be written to.

        DamagedError where it fails its checksum, the first time that it is read.
        """
        image_at, mask_at, height, width, expected = (int(value) for value in self._index[number])
        pixels = self._map[image_at:mask_at]
        labels = self._map[mask_at : mask_at + height * width]
        if not self._seen[number]:
            if zlib.crc32(labels.data, zlib.crc32(pixels.data)) != expected:
                raise DamagedError(f"picture {number} doesn't match its checksum")
            self._seen[number] = True
        # Plain arrays: each slice of a memmap would be one, with its own bookkeeping.
        image = np.asarray(pixels).view(self._dtype).reshape(height, width, self._channels)
        return image, np.asarray(labels).reshape(height, width)

    def close(self) -> None:
        """Let go of the file; arrays from it stay good."""
        self._file.close()
