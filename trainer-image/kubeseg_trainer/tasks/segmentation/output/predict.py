"""Using a trained model, by PyTorch or by ONNX Runtime, on images of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.run_directory import model_file
from kubeseg_trainer.tasks.segmentation.data.images import Pixels, resize_image
from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo, info_of

Array = NDArray[np.float32]


class Backend(Protocol):
    """What computes: a model behind one function."""

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself."""

    @property
    def most(self) -> int | None:
        """Images that it takes at once at most; None: any number."""

    @property
    def size(self) -> int | None:
        """The side that images must have; None: any height and width."""

    def logits(self, images: Array) -> Array:
        """N × K × H × W from images as read, N × C × H × W."""


class TorchBackend:
    """A weights file, by PyTorch, on the CPU or a GPU."""

    most = None
    size = None

    def __init__(self, weights: Path, device: str) -> None:
        import torch

        from kubeseg_trainer.engine.hardware import choose_device, set_threads
        from kubeseg_trainer.tasks.segmentation.output.deployed import load_deployed

        set_threads()
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError("--device cuda: there is no GPU here: leave it out, or cpu")
        self._device = choose_device() if device == "auto" else torch.device(device)
        model, self.info = load_deployed(weights)
        self._model = model.to(self._device).to(memory_format=torch.channels_last)

    def logits(self, images: Array) -> Array:
        """N × K × H × W from images as read, N × C × H × W."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self._device)
            found, _ = self._model(batch.contiguous(memory_format=torch.channels_last))
            result: Array = found.cpu().numpy()
        return result


class OnnxBackend:
    """An ONNX file, by ONNX Runtime: torch is not even imported."""

    def __init__(self, file: Path, device: str) -> None:
        import onnxruntime

        known = onnxruntime.get_available_providers()
        gpu = "CUDAExecutionProvider"
        if device == "cuda" and gpu not in known:
            raise ConfigurationError(
                "--device cuda: this ONNX Runtime has no GPU: use the .safetensors file beside "
                "it, or install onnxruntime-gpu"
            )
        wanted = [gpu] if device != "cpu" and gpu in known else []
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), providers=[*wanted, "CPUExecutionProvider"]
            )
            self.info = info_of(self._session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # its errors share no base of their own
            raise ConfigurationError(f"{file} is no ONNX file of kubeseg: {error}") from error
        batch, _, height, _ = self._session.get_inputs()[0].shape
        self.most: int | None = batch if isinstance(batch, int) else None
        self.size: int | None = height if isinstance(height, int) else None

    def logits(self, images: Array) -> Array:
        """N × K × H × W from images as read, N × C × H × W."""
        result: Array = self._session.run(["logits"], {"image": images})[0]
        return result


def open_model(path: Path, device: str = "auto") -> Backend:
    """The model at `path`: a model folder, a run's folder, a .safetensors or an .onnx file.

    ConfigurationError where it is none of these, or not kubeseg's.
    """
    file = model_file(path)
    return OnnxBackend(file, device) if file.suffix == ".onnx" else TorchBackend(file, device)


@dataclass(frozen=True)
class Prediction:
    """What a model makes of one image."""

    #: H × W, uint8.
    labels: NDArray[np.uint8]
    #: K × H × W, 0 to 1; None where they were not asked for.
    probabilities: Array | None


def predict(
    backend: Backend, images: Sequence[Pixels], *, batch: int = 4, probabilities: bool = False
) -> Iterator[Prediction]:
    """The predictions for images as read (H × W × C each, of any sizes), in their order.

    As the model was trained: images are resized to its square and the logits back, or a window
    slides over them.
    """
    info = backend.info
    batch = min(batch, backend.most or batch)
    if info.image_mode == "Crop":
        for image in images:
            bands = [_labelled(band, probabilities) for band in _slide(backend, image, batch)]
            yield _together(bands)
        return
    side = info.image_size
    for first in range(0, len(images), batch):
        group = images[first : first + batch]
        squares = np.stack(
            # A single channel comes back without its axis.
            [_planes(resize_image(image, side).reshape(side, side, -1)) for image in group]
        )
        for image, found in zip(group, backend.logits(squares), strict=True):
            yield _resized(found, image.shape[:2], probabilities)


def _slide(backend: Backend, image: Pixels, batch: int) -> Iterator[Array]:
    """Logits of an image of any size, K × h × W, from top to bottom, as validation has them."""
    import torch
    from torch import Tensor

    from kubeseg_trainer.tasks.segmentation.network.windows import SlidingWindow

    info = backend.info

    def forward(windows: Tensor) -> Tensor:
        return torch.from_numpy(_fitted(backend, windows.numpy()))

    sliding = SlidingWindow(info.image_size, info.window_overlap, batch)
    for _, logits in sliding.bands(forward, torch.from_numpy(_planes(image)[None])):
        yield logits[0].numpy()


def _fitted(backend: Backend, windows: Array) -> Array:
    """Logits of windows, N × C × h × w; padded for a backend that takes one size, and cut back."""
    if backend.size is None:
        return backend.logits(windows)
    height, width = windows.shape[2:]
    top, left = (backend.size - height) // 2, (backend.size - width) // 2
    below, right = backend.size - height - top, backend.size - width - left
    whole = np.pad(windows, ((0, 0), (0, 0), (top, below), (left, right)), mode="edge")
    return backend.logits(whole)[:, :, top : top + height, left : left + width]


def _labelled(logits: Array, probabilities: bool) -> Prediction:
    labels = logits.argmax(axis=0).astype(np.uint8)
    return Prediction(labels, _softmax(logits) if probabilities else None)


def _together(bands: Sequence[Prediction]) -> Prediction:
    """Bands of a picture as one."""
    parts = [band.probabilities for band in bands if band.probabilities is not None]
    labels = np.concatenate([band.labels for band in bands])
    return Prediction(labels, np.concatenate(parts, axis=1) if parts else None)


def _softmax(logits: Array) -> Array:
    powers: Array = np.exp(logits - logits.max(axis=0))
    result: Array = powers / powers.sum(axis=0)
    return result


def _planes(image: Pixels) -> Array:
    return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)


def _resized(logits: Array, size: tuple[int, ...], probabilities: bool) -> Prediction:
    """The prediction for an image of `size`, from the logits of its square."""
    height, width = size
    if probabilities:
        full = np.stack([_enlarged(plane, height, width) for plane in logits])
        return _labelled(full, probabilities)
    # Class by class: all of them at the size of a large image would take a lot of memory.
    best = _enlarged(logits[0], height, width)
    labels = np.zeros((height, width), np.uint8)
    for label in range(1, len(logits)):
        values = _enlarged(logits[label], height, width)
        higher = values > best
        labels[higher] = label
        np.copyto(best, values, where=higher)
    return Prediction(labels, None)


def _enlarged(plane: Array, height: int, width: int) -> Any:
    if plane.shape == (height, width):
        return plane.copy()
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
