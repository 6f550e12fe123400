"""Decoded pictures: from their files, or from the cache where it has them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kubeseg_trainer.tasks.segmentation.data.cache_file import CacheFile, DamagedError
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.images import Pixels, UnreadableError, resize, size_of
from kubeseg_trainer.tasks.segmentation.data.reading import Decoding, read_pair

log = logging.getLogger(__name__)

#: Goes up when the same files become other arrays: old caches then no longer count.
VERSION = 1


def widen(image: NDArray[Any], bits: int) -> NDArray[Any]:
    """`image` with `bits` a channel: 8-bit values use the full range of 16 bits then."""
    if bits == 16 and image.dtype == np.uint8:
        return image.astype(np.uint16) * 257
    return image


@dataclass(frozen=True)
class Files:
    """Pairs, and how they become arrays of one kind."""

    pairs: Sequence[Pair]
    decoding: Decoding
    #: Side of the square that each becomes; None: they keep their size.
    side: int | None
    bits: int = 8

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[NDArray[Any], Pixels]:
        """Image (H × W × channels, uint8 or uint16) and mask (H × W, uint8) of a pair.

        DatasetError where a file is broken.
        """
        image, mask = read_pair(self.pairs[index], self.decoding)
        if self.side is not None:
            image, mask = resize(image, mask, self.side)
        # OpenCV drops the last axis of a single channel.
        return widen(image, self.bits).reshape(*mask.shape, self.decoding.channels), mask

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of what `read` gives, from the file's header where it can be."""
        if self.side is not None:
            return self.side, self.side
        try:
            width, height = size_of(self.pairs[index].image)
        except UnreadableError:
            height, width = self.read(index)[1].shape
        return height, width

    def key(self, content: str) -> str:
        """Name of these arrays; `content` stands for the files, their order and their decoding
        (`Checked.fingerprint`).
        """
        parts = {
            "version": VERSION,
            "content": content,
            "side": self.side,
            "bits": self.bits,
            "decoding": repr(self.decoding),
            "count": len(self.pairs),
            # Its resizing is not promised to stay the same.
            "opencv": cv2.__version__,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class Decoded:
    """The arrays of `files`, from the cache file at `path`.

    Each process opens the file for itself, when it needs it. A picture that fails its checksum,
    or all of them where the file is gone, is decoded instead: the same numbers, only slower.
    """

    def __init__(self, files: Files, path: Path, key: str) -> None:
        self._files = files
        self._path = path
        self._key = key
        self._file: CacheFile | None = None
        self._failed = False
        self._told = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def open(self) -> CacheFile:
        """The file; OSError or DamagedError where it can't be used."""
        if self._file is None:
            self._file = CacheFile(
                self._path, self._key, channels=self._files.decoding.channels, bits=self._files.bits
            )
        return self._file

    def read(self, index: int) -> tuple[NDArray[Any], Pixels]:
        """As `Files.read`; a view that must not be written to."""
        if not self._failed:
            try:
                return self.open().read(index)
            except (OSError, DamagedError) as error:
                self._give_up(error)
        return self._files.read(index)

    def _give_up(self, error: Exception) -> None:
        """On one picture, or on all where the file can't be opened; the next start makes it new."""
        self._failed = self._file is None
        if not self._told:
            log.warning(
                "the decoded cache %s is damaged (%s): what can't be used is decoded again",
                self._path,
                error,
            )
        self._told = True
        with contextlib.suppress(OSError):
            self._path.unlink()
