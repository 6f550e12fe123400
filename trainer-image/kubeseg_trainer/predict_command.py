"""`kubeseg-trainer predict`: label images for pictures."""

from __future__ import annotations

import io
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeseg_trainer.engine.report import Reporter, wants_bar
from kubeseg_trainer.errors import (
    ConfigurationError,
    DatasetError,
    TrainerError,
    ending_of,
    storage_error,
)
from kubeseg_trainer.files import temporary_beside
from kubeseg_types.exit_codes import ExitCode

if TYPE_CHECKING:
    from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo
    from kubeseg_trainer.tasks.segmentation.output.predict import Backend, Prediction

log = logging.getLogger(__name__)

_READERS = 4
_NAMED = 3


@dataclass(frozen=True)
class PredictOptions:
    """The command line of `predict`."""

    model: Path
    images: Sequence[Path]
    out: Path
    overlay: bool = False
    probabilities: bool = False
    #: "refuse", "skip" or "overwrite" what is there.
    existing: str = "refuse"
    batch: int = 4
    #: "auto", "cpu" or "cuda".
    device: str = "auto"


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files named, and those right inside the folders named, each once, in that order.

    ConfigurationError where something is not there, or a folder has none.
    """
    from kubeseg_trainer.tasks.segmentation.data.images import IMAGE_SUFFIXES

    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = [
                file
                for file in sorted(path.iterdir())
                if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
            ]
            if not inside:
                raise ConfigurationError(
                    f"{path} has no images: files that end in {', '.join(sorted(IMAGE_SUFFIXES))}"
                )
        elif path.is_file():
            inside = [path]
        else:
            raise ConfigurationError(f"{path} is not there: give image files, or folders of them")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def plan(images: Sequence[Path], options: PredictOptions) -> list[tuple[Path, Path]]:
    """(image, label image) of what is to be done; ConfigurationError where files would collide."""
    targets = [(image, options.out / f"{image.stem}.png") for image in images]
    counts = Counter(target.name for _, target in targets)
    twice = _few([name for name, count in counts.items() if count > 1])
    if twice:
        raise ConfigurationError(
            f"two images would be written to {twice}: rename one, or predict them into different "
            f"folders"
        )
    if options.out.resolve() in {image.parent.resolve() for image in images}:
        raise ConfigurationError(
            f"--out: {options.out} is where images come from, and the labels would lie among them "
            f"or replace them: choose another folder"
        )
    there = [target for _, target in targets if target.exists()]
    if there and options.existing == "refuse":
        raise ConfigurationError(
            f"--out: {len(there)} of {len(targets)} label images are there "
            f"({_few([target.name for target in there])}): --existing skip leaves them, --existing "
            f"overwrite makes them anew"
        )
    left = set(there) if options.existing == "skip" else set()
    return [(image, target) for image, target in targets if target not in left]


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" (+{more} more)" if more > 0 else "")


def predict_images(options: PredictOptions) -> int:
    """Write `<out>/<stem>.png` for each image; returns the exit code.

    An image that can't be read is named, and the others are done all the same (exit code 3).
    """
    try:
        with Reporter(bar=wants_bar()) as reporter:
            _predict(options, reporter)
    except KeyboardInterrupt:
        log.warning("interrupted: --existing skip goes on from here")
        return int(ExitCode.INTERRUPTED)
    except (TrainerError, OSError, MemoryError, RuntimeError) as error:
        code, text = ending_of(error)
        if code == ExitCode.ERROR:
            log.exception("unexpected end")
        log.error("%s", text)  # noqa: TRY400 - the sentence says it; a traceback adds nothing
        return int(code)
    return 0


def _predict(options: PredictOptions, reporter: Reporter) -> None:
    images = find_images(options.images)
    work = plan(images, options)
    if len(work) < len(images):
        log.info("%d of %d label images are there already", len(images) - len(work), len(images))
    if not work:
        return
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, options.out) from error
    from kubeseg_trainer.tasks.segmentation.output.predict import open_model, predict

    backend = open_model(options.model, options.device)
    began, done, failed = time.monotonic(), 0, []
    for group in _read_ahead(work, options.batch, backend.info):
        good = []
        for image, target, pixels in group:
            if isinstance(pixels, DatasetError):
                failed.append(image)
                log.error("%s", pixels)
            else:
                good.append((image, target, pixels))
        predictions = predict(
            backend,
            [pixels for *_, pixels in good],
            batch=options.batch,
            probabilities=options.probabilities,
        )
        for (_, target, pixels), prediction in zip(good, predictions, strict=True):
            _write(backend, target, pixels, prediction, overlay=options.overlay)
        done += len(group)
        speed = done / (time.monotonic() - began)
        reporter.step("predict", done, len(work), partial(list, (f"{speed:.3g} img/s",)))
    log.info("%d label images in %s", len(work) - len(failed), options.out)
    if failed:
        raise DatasetError(
            f"{len(failed)} of {len(work)} images can't be read: "
            f"{_few([str(image) for image in failed])}"
        )


def _read_ahead(
    work: Sequence[tuple[Path, Path]], size: int, info: ModelInfo
) -> Iterator[list[tuple[Path, Path, Any]]]:
    """(image, target, pixels or DatasetError) in groups of `size`, the next one being read."""
    from kubeseg_trainer.tasks.segmentation.data.images import read_image

    def read(image: Path) -> Any:
        try:
            pixels = read_image(image, info.in_channels, info.bits)
            # OpenCV drops the last axis of a single channel.
            return pixels.reshape(*pixels.shape[:2], info.in_channels)
        except DatasetError as error:
            return error

    groups = [work[i : i + size] for i in range(0, len(work), size)]
    waiting: deque[list[Future[Any]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for number, group in enumerate(groups):
                for ahead in groups[number + len(waiting) : number + 2]:
                    waiting.append([pool.submit(read, image) for image, _ in ahead])
                pixels = [future.result() for future in waiting.popleft()]
                yield [(*pair, found) for pair, found in zip(group, pixels, strict=True)]
        finally:
            pool.shutdown(cancel_futures=True)


def _write(
    backend: Backend, target: Path, pixels: Any, prediction: Prediction, *, overlay: bool
) -> None:
    import numpy as np

    from kubeseg_trainer.tasks.segmentation.output.drawing import draw_labels, draw_overlay

    info = backend.info
    if prediction.probabilities is not None:
        buffer = io.BytesIO()
        np.save(buffer, prediction.probabilities.astype(np.float16))
        _put(target.with_suffix(".npy"), buffer.getvalue())
    if overlay:
        picture = draw_overlay(pixels, prediction.labels, info)
        _put(target.with_name(f"{target.stem}.overlay.jpg"), picture)
    # Last: where it is there, all of this image is done.
    _put(target, draw_labels(prediction.labels, info))


def _put(target: Path, data: bytes) -> None:
    """A kill leaves the whole file or none; that it outlives the machine's is not worth a wait."""
    temporary = temporary_beside(target)
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, target, len(data)) from error
