"""`kubeseg-trainer predict`: label images for pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from kubeseg_trainer.engine.report import Reporter, wants_bar
from kubeseg_trainer.errors import ConfigurationError, TrainerError, ending_of

log = logging.getLogger(__name__)


def _outputs(images: Sequence[Path], out: Path) -> list[Path]:
    targets = [out / f"{image.stem}.png" for image in images]
    twice = {target.name for target in targets if targets.count(target) > 1}
    if twice:
        raise ConfigurationError(
            f"--image: two images would be written to {', '.join(sorted(twice))}: rename one, or "
            f"predict them into different folders"
        )
    sources = {image.resolve() for image in images}
    for target in targets:
        if target.resolve() in sources:
            raise ConfigurationError(f"--out: {target} would overwrite an image: choose another")
    return targets


def predict_images(weights: Path, images: Sequence[Path], out: Path) -> int:
    """Write `<out>/<stem>.png` (8-bit labels) for each image; returns the exit code."""
    try:
        targets = _outputs(images, out)
        out.mkdir(parents=True, exist_ok=True)
        from kubeseg_trainer.tasks.segmentation.images import read_image
        from kubeseg_trainer.tasks.segmentation.predict import predict

        with Reporter(bar=wants_bar()) as reporter:
            for done, (image, target) in enumerate(zip(images, targets, strict=True), 1):
                Image.fromarray(predict(weights, read_image(image))).save(target)
                reporter.step("predict", done, len(images))
        log.info("%d label images in %s", len(images), out)
        return 0
    except (TrainerError, OSError, MemoryError) as error:
        code, text = ending_of(error)
        log.error("%s", text)  # noqa: TRY400 - the sentence says it; a traceback adds nothing
        return int(code)
