"""Images with pages or many channels: TIFF through tifffile, and numpy's arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from kubeseg_trainer.tasks.segmentation.data.images import Facts, UnreadableError

#: More than spec.model.inChannels allows: surely an axis that is no channel.
_MOST = 16
#: Values of TIFF's PhotometricInterpretation.
_RGB, _PALETTE, _YCBCR = 2, 3, 6
_BROKEN = (OSError, ValueError, RuntimeError, IndexError, KeyError, tifffile.TiffFileError)


def is_plain_tiff(path: Path) -> bool:
    """Whether the TIFF holds one picture, grey or of colours side by side, as others read it."""
    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            return _plain(file, page)
    except _BROKEN:
        # Then the common decoder says what is wrong with it.
        return True


def _plain(file: tifffile.TiffFile, page: Any) -> bool:
    pages = len(file.series[0].pages)
    colors = page.photometric in (_RGB, _YCBCR) and page.samplesperpixel in (3, 4)
    return pages == 1 and page.planarconfig == 1 and (colors or page.samplesperpixel == 1)


def read_stack(path: Path) -> Any:
    """H × W × C, uint8 or uint16; UnreadableError where it is nothing of the kind.

    The axis of the channels may be the first or the last; pages of a TIFF are channels.
    """
    try:
        if path.suffix.lower() == ".npy":
            array, axes = np.load(path, allow_pickle=False), None
        else:
            with tifffile.TiffFile(path) as file:
                series = file.series[0]
                array, axes = series.asarray(), series.axes
    except _BROKEN as error:
        raise UnreadableError(_why(error)) from error
    return _channels_last(array, axes)


def _why(error: Exception) -> str:
    if "imagecodecs" in str(error):
        return f"can't be read: {error}; install it with: pip install 'kubeseg[formats]'"
    return f"can't be read: {error}"


def _channels_last(array: Any, axes: str | None) -> Any:
    if array.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(
            f"holds {array.dtype}, not 8 or 16 bits without a sign: save it as uint8 or uint16"
        )
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim != 3:
        raise UnreadableError(f"has the shape {array.shape}: height, width and channels are needed")
    told = axes is not None and axes.endswith("YX")
    first = told or (axes is None and array.shape[0] <= _MOST < array.shape[2])
    array = np.ascontiguousarray(np.moveaxis(array, 0, 2)) if first else array
    if array.shape[2] > _MOST:
        raise UnreadableError(f"has {array.shape[2]} channels, at most {_MOST} are read")
    return array


def check_stack(path: Path) -> Facts:
    """What the TIFF or array at `path` is, read whole; UnreadableError where it is none."""
    alpha = False
    if path.suffix.lower() != ".npy":
        try:
            with tifffile.TiffFile(path) as file:
                page: Any = file.pages[0]
                extra = tuple(int(kind) for kind in page.extrasamples)
                # 1 and 2 are the kinds of alpha; 0 is a channel of any other kind.
                alpha = page.samplesperpixel == 4 and extra in ((1,), (2,))
                palette = page.photometric == _PALETTE
        except _BROKEN as error:
            raise UnreadableError(_why(error)) from error
        if palette:
            raise UnreadableError("is a TIFF with a palette: save it as RGB")
    array = read_stack(path)
    height, width, channels = array.shape
    return Facts(width, height, channels, alpha, 16 if array.dtype == np.uint16 else 8)
